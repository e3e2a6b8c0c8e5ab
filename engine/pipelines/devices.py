"""What a device is good at, and what running out of its memory looks like."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from engine.errors import Internal

R = TypeVar("R")
PROBE = 2048  # rows of a matrix large enough to keep any device busy
_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Where half precision is fast: float16 on a GPU, as published; bfloat16 on a CPU that multiplies it, else float32.

    These networks' values stay small, so float16's three more bits of fraction are worth more than bfloat16's range.
    """
    if device.type == "cuda":
        return torch.float16
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


def restoration_dtype(device: torch.device, *, narrow: bool) -> torch.dtype:
    """As `fastest_dtype`, for networks whose values outgrow float16: bfloat16 on a GPU that multiplies it (Ampere on).

    On an older one float16, where they are `narrow` enough for that, else float32.
    """
    if device.type != "cuda":
        return fastest_dtype(device)
    if torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    return torch.float16 if narrow else torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Also what the CPU's allocator, pinned memory and CUDA's libraries say, which only their words tell apart."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def unless_out_of_memory(work: Callable[[], R]) -> R | None:
    """What the work gives, without gradients; None when memory ran out, and then nothing of it is held any more."""
    try:
        with torch.inference_mode():
            return work()
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
    return None


def demand_numbers(x: Tensor, name: str) -> None:
    """Raises Internal where the model of that name has given anything but numbers."""
    if not bool(torch.isfinite(x).all()):
        raise Internal(
            f"`{name}` gave values that are no numbers",
            hint="a checkpoint may be damaged, or DTYPE too narrow for it: bf16 or fp32 hold more",
            stage="process",
        )


@contextmanager
def timed(seconds: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    """Add what the work takes on the device to the seconds under `name`, also where it breaks off."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun


def release(device: torch.device) -> None:
    """Give back what failed work held. Call it outside `except`: the traceback keeps tensors alive."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """What the device reaches in one large matrix product, measured in a moment."""
    a = torch.ones(PROBE, PROBE, device=device, dtype=dtype)
    with torch.inference_mode():
        (a @ a)[0, 0].item()  # the first of its kind also chooses a kernel
        begun = time.perf_counter()
        (a @ a)[0, 0].item()
    return 2 * PROBE**3 / (time.perf_counter() - begun)
