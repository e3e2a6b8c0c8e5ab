"""What a device reaches and holds, for benchmarks that run on a card, or anywhere else to see that they run."""

import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import OutOfMemory
from engine.pipelines.devices import is_out_of_memory, release

GIB = 2**30
DTYPE = torch.bfloat16
T = TypeVar("T")


def random_weights(
    net: nn.Module, device: torch.device, *, fp8: bool, place: torch.device | None = None
) -> dict[str, Tensor]:
    """Of a size that keeps activations of order one, made on the device and kept at `place`, if anywhere else.

    With `fp8` the blocks' matrices are of one byte a value.
    """

    def made(name: str, shape: Sequence[int]) -> Tensor:
        w = torch.randn(tuple(shape), device=device, dtype=DTYPE)
        if w.numel() == shape[0]:
            return w.mul_(0.02).add_(float(name.endswith(("weight", "_scale", "gamma"))))
        w /= (w.numel() / shape[0]) ** 0.5
        return w.to(torch.float8_e4m3fn) if fp8 and name.startswith("blocks.") and w.dim() == 2 else w

    return {name: made(name, tensor.shape).to(place or device) for name, tensor in net.state_dict().items()}


def demanded(name: str) -> torch.device:
    """The device asked for by name. Ends the process where that is a card and torch sees none."""
    if name == "cuda" and not torch.cuda.is_available():
        sys.exit("this needs a CUDA card, and torch sees none; --device cpu --tiny shows that the code runs")
    return torch.device(name)


def described(device: torch.device, *, compiled: bool) -> str:
    """What a table's head says of the machine."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}{', compiled' if compiled else ''}"


def counted(work: Callable[[], object]) -> int:
    """Operations; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def matrix_rate(device: torch.device) -> float:
    """Operations per second in one large matrix product."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device, dtype=DTYPE) for _ in range(2))
    return 2 * n**3 / median(seconds(lambda: a @ b, device) for _ in range(10))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Until the device has done it."""
    wait(device)
    begun = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - begun


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def guarded(work: Callable[[], T], device: torch.device) -> T | str:
    """What comes of it, or that memory ran out."""
    try:
        return work()
    except OutOfMemory as error:
        problem = str(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        problem = "out of memory"
    release(device)
    return problem


def free_bytes(device: torch.device) -> int:
    release(device)
    return torch.cuda.mem_get_info()[0] if device.type == "cuda" else 8 * GIB


def allocated(device: torch.device, *, peak: bool = False) -> int:
    """Bytes of tensors; nobody counts them on a CPU."""
    if device.type == "cpu":
        return 0
    return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
