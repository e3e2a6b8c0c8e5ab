"""Loading a SeedVR2 3B of full size with random weights: our rate against that at which the file can be read at all.

    python -m benchmarks.loading [--layers 32] [--repeats 3] [--folder DIR] [--format fp16|fp8|q8_0 ...]

Reading means one buffer that is filled from the file from end to end; keeping, that each piece gets memory of its own,
which costs what the system takes to provide it and which no loader gets around. All are done with the file in the
system's cache and with it thrown out of it, in turns; ratios are medians over the rounds. Each case is a process of its
own, whose peak memory beyond what it had before is told as a share of the file. The 32 layers in fp16 are 6.8 GB, on
disk and, once loaded, in memory; twice that in float32.
"""

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from engine.models.seedvr2 import names
from engine.models.seedvr2.config import DIT_3B
from engine.models.seedvr2.dit import build
from engine.weights.load import load_weights, open_weights

PIECE = 2**24
DTYPES = {"fp16": ("float16", "bfloat16", "float32"), "fp8": ("bfloat16",), "q8_0": ("bfloat16",)}
SUFFIXES = {"fp16": "fp16.safetensors", "fp8": "fp8_e4m3fn.safetensors", "q8_0": "Q8_0.gguf"}
COLUMNS = "{:22} {:>9} {:>5} {:>10} {:>10} {:>10} {:>8} {:>8} {:>11}"


def tensors(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file, but for the rotary tables."""
    with torch.device("meta"):
        net = build(dataclasses.replace(DIT_3B, layers=layers, separate=min(DIT_3B.separate, layers - 1)))
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], code: str, dtype: torch.dtype) -> None:
    """Random values, the same few MiB over and over: a tensor begins anywhere in them."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        _fill(file.write, offset, noise(dtype))


def write_q8_0(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Block matrices in Q8_0, all else float16, in the order of the names."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(path, "seedvr")
    halves = noise(torch.float16).view(torch.float16).numpy()
    blocks = quantize(halves.astype(np.float32).reshape(-1, 256), GGMLQuantizationType.Q8_0).reshape(-1)
    made = []
    for name, shape in shapes.items():
        if name.startswith("blocks.") and len(shape) == 2:
            data = np.resize(blocks, (shape[0], shape[1] // 32 * 34))
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes, raw_dtype=kind)
        else:
            data = np.resize(halves, shape)
            writer.add_tensor_info(name, data.shape, data.dtype, data.nbytes)
        made.append((name, data.shape, data.dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, shape, kind in made:
        writer.write_tensor_data(np.resize(blocks if kind == np.uint8 else halves, shape))
    writer.close()


def noise(dtype: torch.dtype) -> Tensor:
    """PIECE bytes of small random numbers."""
    return (
        (torch.randn(PIECE // dtype.itemsize, generator=torch.Generator().manual_seed(0)) / 50)
        .to(dtype)
        .view(torch.uint8)
    )


def _fill(write: Callable[[memoryview], object], nbytes: int, piece: Tensor) -> None:
    data = piece.numpy().data
    for start in range(0, nbytes, PIECE):
        write(data[: nbytes - start])


def read(path: Path) -> None:
    """As fast as it goes: into one buffer, nothing kept."""
    buffer = bytearray(PIECE)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def keep(path: Path) -> list[Tensor]:
    """The same, each piece into memory of its own."""
    pieces = []
    with path.open("rb", buffering=0) as file:
        for start in range(0, path.stat().st_size, PIECE):
            pieces.append(torch.empty(min(PIECE, path.stat().st_size - start), dtype=torch.uint8))
            file.readinto(pieces[-1].numpy().data)
    return pieces


def load(path: Path, dtype: str) -> torch.nn.Module:
    """As the pipeline does it."""
    checkpoint = names.parse(open_weights(path))
    assert checkpoint is not None
    with torch.device("meta"):
        net = build(checkpoint.config)
    load_weights(net, checkpoint.weights, path.name, device=torch.device("cpu"), dtype=getattr(torch, dtype))
    return net


def throw_out(path: Path) -> None:
    """Of the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def status(field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def case(path: Path, dtype: str, cold: bool, repeats: int) -> None:
    """Run in a process of its own: seconds of reading, loading, keeping; bytes beyond what was there."""
    prepare: Callable[[Path], None] = throw_out if cold else read
    torch.zeros(PIECE, dtype=torch.float16).to(getattr(torch, dtype))
    with torch.device("meta"):
        build(DIT_3B)
    works: tuple[Callable[[], object], ...] = (lambda: read(path), lambda: load(path, dtype), lambda: keep(path))
    before, peak = status("VmRSS"), 0
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, row in zip(works, times, strict=True):
            prepare(path)
            row.append(seconds(work))
            peak = peak or (status("VmHWM") if work is works[1] else 0)
    print(json.dumps([*times, peak - before]))


def measure(path: Path, dtype: str, cold: bool, repeats: int) -> str:
    command = [sys.executable, "-m", "benchmarks.loading", "--case", str(path), dtype, str(int(cold)), str(repeats)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    reading, loading, keeping, peak = json.loads(done.stdout)
    size = path.stat().st_size
    rates = [f"{size / statistics.median(times) / 1e9:.2f} GB/s" for times in (reading, keeping, loading)]
    ratios = [statistics.median(a / b for a, b in zip(other, loading, strict=True)) for other in (reading, keeping)]
    figures = [f"{ratio:.2f}" for ratio in ratios]
    return COLUMNS.format(path.name, dtype, "cold" if cold else "warm", *rates, *figures, f"{peak / size:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--layers", type=int, default=DIT_3B.layers)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are written for the while (default: temporary)")
    parser.add_argument("--format", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--dtype", nargs="+", help="of the loaded weights (default: those that make sense)")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        path, dtype, cold, repeats = options.case
        return case(Path(path), dtype, cold == "1", int(repeats))
    shapes = tensors(options.layers)
    needed = 2 * sum(torch.Size(shape).numel() for shape in shapes.values())
    print(COLUMNS.format("file", "loaded as", "cache", "read", "kept", "loaded", "of read", "of kept", "peak / file"))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if (free := shutil.disk_usage(folder).free) < 1.2 * needed:
            parser.error(
                f"the largest file takes {needed / 1e9:.1f} GB, and only {free / 1e9:.1f} are free: fewer --layers"
            )
        for kind in options.format:
            path = Path(folder) / SUFFIXES[kind]
            if kind == "q8_0":
                write_q8_0(path, shapes)
            else:
                code, stored = ("F16", torch.float16) if kind == "fp16" else ("F8_E4M3", torch.float8_e4m3fn)
                write_safetensors(path, shapes, code, stored)
            for dtype in options.dtype or DTYPES[kind]:
                for cold in (False, True):
                    print(measure(path, dtype, cold, options.repeats), flush=True)
            path.unlink()
    return None


if __name__ == "__main__":
    main()
