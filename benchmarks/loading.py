"""Loading networks of full size with random weights: our rate against that at which the file can be read at all.

    python -m benchmarks.loading [--layers 32] [--repeats 3] [--folder DIR] [--format fp16|fp8|q4_k_m|converted ...]

SeedVR2 3B in fp16, fp8 and Q4_K_M (6.8, 3.4 and 1.9 GB), each loaded in its stored dtype and in the one that the worker
takes on this machine; on a GPU too, where there is one. `converted`: Wan2.1 T2V 1.3B with a third as many layers in
float32 shards, and the file that `builder.convert` makes of them.

Reading means one buffer that is filled from the file from end to end; keeping, that each piece gets memory of its own,
which costs what the system takes to provide it and bounds what changes its dtype. What stays as it is stored is mapped
on a CPU and needs no memory besides the system's cache. All are done with the file in that cache and with it thrown out
of it, in turns; ratios are medians over the rounds. Each case is a process of its own, whose peak memory beyond what it
had before is told as a share of the file. The last column is the machine's load: above 2 or so the case was disturbed.
"""

import argparse
import dataclasses
import json
import math
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from torch import Tensor, nn

from builder.convert import convert
from builder.tiny.k_quants import quantize
from engine.catalog import File, Model, Source
from engine.models.seedvr2 import names
from engine.models.seedvr2.config import DIT_3B
from engine.models.seedvr2.dit import build
from engine.models.wan.config import T2V_1_3B
from engine.models.wan.dit import WanDiT
from engine.models.wan.names import stays_wide
from engine.pipelines.devices import restoration_dtype
from engine.pipelines.wan.load import read_transformer
from engine.weights.load import load_weights, open_weights
from engine.weights.quants import BLOCK_TYPES

PIECE = 2**24
SUFFIXES = {"fp16": "fp16.safetensors", "fp8": "fp8_e4m3fn.safetensors", "q4_k_m": "Q4_K_M.gguf"}
CONVERTED = "converted"
SHARDS = 3
COLUMNS = "{:26} {:6} {:9} {:7} {:>5} {:>10} {:>10} {:>10} {:>7} {:>8} {:>8} {:>11} {:>5}"
TITLES = (
    *("file", "device", "dtype", "whose", "cache", "read", "kept", "loaded", "seconds", "of read", "of kept"),
    *("peak / file", "load"),
)


def seedvr2_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file, but for the rotary tables."""
    with torch.device("meta"):
        net = build(dataclasses.replace(DIT_3B, layers=layers, separate=min(DIT_3B.separate, layers - 1)))
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def wan_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Wan2.1 T2V 1.3B of so many layers."""
    with torch.device("meta"):
        net = WanDiT(dataclasses.replace(T2V_1_3B, layers=layers))
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], code: str, dtype: torch.dtype) -> None:
    """Random values, the same few MiB over and over: a tensor begins anywhere in them."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        _fill(file.write, offset, noise(dtype))


def write_gguf(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """As Q4_K_M: the blocks' matrices in Q4_K, those that end an MLP in Q6_K; all else float16."""
    halves = noise(torch.float16).view(torch.float16)
    writer = GGUFWriter(path, "seedvr")
    blocks = {kind: quantize(halves[: 2**20].float(), kind).view(-1).numpy() for kind in ("Q4_K", "Q6_K")}
    made: list[tuple[np.typing.NDArray[np.generic], tuple[int, ...]]] = []
    for name, shape in shapes.items():
        if name.startswith("blocks.") and len(shape) == 2:
            kind = "Q6_K" if name.endswith("proj_out.weight") else "Q4_K"
            packed = (shape[0], shape[1] // 256 * BLOCK_TYPES[kind].nbytes)
            writer.add_tensor_info(
                name, packed, np.dtype(np.uint8), math.prod(packed), raw_dtype=GGMLQuantizationType[kind]
            )
            made.append((blocks[kind], packed))
        else:
            writer.add_tensor_info(name, shape, np.dtype(np.float16), 2 * math.prod(shape))
            made.append((halves.numpy(), shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values, shape in made:
        writer.write_tensor_data(np.resize(values, shape))
    writer.close()


def noise(dtype: torch.dtype) -> Tensor:
    """PIECE bytes of small random numbers."""
    values = torch.randn(PIECE // dtype.itemsize, generator=torch.Generator().manual_seed(0)) / 50
    return values.to(dtype).view(torch.uint8)


def _fill(write: Callable[[memoryview], object], nbytes: int, piece: Tensor) -> None:
    data = piece.numpy().data
    for start in range(0, nbytes, PIECE):
        write(data[: nbytes - start])


def read(paths: Sequence[Path]) -> None:
    """As fast as it goes: into one buffer, nothing kept."""
    buffer = bytearray(PIECE)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def keep(paths: Sequence[Path]) -> list[Tensor]:
    """The same, each piece into memory of its own."""
    pieces = []
    for path in paths:
        size = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            for start in range(0, size, PIECE):
                pieces.append(torch.empty(min(PIECE, size - start), dtype=torch.uint8))
                file.readinto(pieces[-1].numpy().data)
    return pieces


def load(paths: Sequence[Path], device: torch.device, dtype: torch.dtype) -> nn.Module:
    """As the pipelines do it, to the end of it."""
    if checkpoint := names.parse(open_weights(paths[0])):
        with torch.device("meta"):
            net: nn.Module = build(checkpoint.config)
        load_weights(net, checkpoint.weights, paths[0].name, device=device, dtype=dtype)
    else:
        transformer = read_transformer({"dit": paths})
        with torch.device("meta"):
            net = WanDiT(transformer.config)
        load_weights(net, transformer.weights, paths[0].name, device=device, dtype=dtype, wide=stays_wide)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return net


def throw_out(paths: Sequence[Path]) -> None:
    """Of the system's cache."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    made = work()
    spent = time.perf_counter() - begun
    del made  # giving memory back is no part of it
    return spent


def status(field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def case(paths: Sequence[Path], device: torch.device, dtype: torch.dtype, cold: bool, repeats: int) -> None:
    """Run in a process of its own: seconds of reading, loading, keeping; bytes beyond what was there."""
    prepare = throw_out if cold else read
    torch.zeros(PIECE, dtype=torch.float16, device=device).to(dtype)
    with torch.device("meta"):
        build(DIT_3B)
    works: tuple[Callable[[], object], ...] = (
        lambda: read(paths),
        lambda: load(paths, device, dtype),
        lambda: keep(paths),
    )
    before, peak = status("VmRSS"), 0
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, row in zip(works, times, strict=True):
            prepare(paths)
            row.append(seconds(work))
            peak = peak or (status("VmHWM") if work is works[1] else 0)
    print(json.dumps([*times, peak - before]))


def measure(paths: Sequence[Path], device: str, dtype: torch.dtype, what: str, cold: bool, repeats: int) -> None:
    """Print a row. what: whose choice the dtype is."""
    name = str(dtype).removeprefix("torch.")
    command = [sys.executable, "-m", "benchmarks.loading", "--case", device, name, str(int(cold)), str(repeats)]
    command += map(str, paths)
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    reading, loading, keeping, peak = json.loads(done.stdout)
    size = sum(path.stat().st_size for path in paths)
    rates = [f"{size / statistics.median(times) / 1e9:.2f} GB/s" for times in (reading, keeping, loading)]
    ratios = [statistics.median(a / b for a, b in zip(other, loading, strict=True)) for other in (reading, keeping)]
    figures = [f"{statistics.median(loading):.2f}", *(f"{ratio:.2f}" for ratio in ratios), f"{peak / size:.3f}"]
    files = paths[0].name if len(paths) == 1 else f"{len(paths)} shards"
    place = "warm" if not cold else "cold"
    print(COLUMNS.format(files, device, name, what, place, *rates, *figures, f"{os.getloadavg()[0]:.1f}"), flush=True)


def rows(paths: Sequence[Path], dtypes: Sequence[tuple[torch.dtype, str]], repeats: int) -> None:
    """Cold and warm, on the CPU in each dtype, and on a GPU in the worker's."""
    cases = [("cpu", dtype, what) for dtype, what in dtypes]
    if torch.cuda.is_available():
        cases.append(("cuda", restoration_dtype(torch.device("cuda"), narrow=True), "worker"))
    for device, dtype, what in cases:
        for cold in (True, False):
            measure(paths, device, dtype, what, cold, repeats)


def published(folder: Path, kind: str, layers: int, repeats: int) -> None:
    """Rows of SeedVR2 in one of SUFFIXES."""
    path, shapes = folder / SUFFIXES[kind], seedvr2_shapes(layers)
    if kind == "q4_k_m":
        write_gguf(path, shapes)
    else:
        code, stored = ("F16", torch.float16) if kind == "fp16" else ("F8_E4M3", torch.float8_e4m3fn)
        write_safetensors(path, shapes, code, stored)
    dtypes = [(torch.float16, "stored"), (restoration_dtype(torch.device("cpu"), narrow=True), "worker")]
    rows([path], dtypes, repeats)
    path.unlink()


def converted(folder: Path, layers: int, repeats: int) -> None:
    """Rows of float32 shards of Wan's, and of what is made of them."""
    shapes = list(wan_shapes(max(1, layers // 3)).items())
    shards = []
    for i in range(SHARDS):
        shards.append(folder / f"wan-{i + 1:05}-of-{SHARDS:05}.safetensors")
        part = shapes[i * len(shapes) // SHARDS : (i + 1) * len(shapes) // SHARDS]
        write_safetensors(shards[-1], dict(part), "F32", torch.float32)
    files = tuple(File(path.name, None, path.name, "dit", Source("none"), sha256="0" * 64) for path in shards)
    model = Model("wan-converted", "wan", ("t2v",), "", parameters=0, precision="F32", files=files)
    made = convert(model, {path.name: path for path in shards}, folder)
    for paths in (shards, [made]):
        rows(paths, [(torch.bfloat16, "as GPUs")], repeats)
        for path in paths:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loading", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=DIT_3B.layers)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are written for the while (default: temporary)")
    parser.add_argument("--format", nargs="+", choices=(*SUFFIXES, CONVERTED), default=[*SUFFIXES, CONVERTED])
    parser.add_argument("--case", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        device, dtype, cold, repeats, *paths = options.case
        case([Path(path) for path in paths], torch.device(device), getattr(torch, dtype), cold == "1", int(repeats))
        return
    needed = 2.2 * sum(torch.Size(shape).numel() for shape in seedvr2_shapes(options.layers).values())
    print(COLUMNS.format(*TITLES))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if (free := shutil.disk_usage(folder).free) < needed:
            parser.error(f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} are free: take fewer --layers")
        for kind in options.format:
            if kind == CONVERTED:
                converted(Path(folder), options.layers, options.repeats)
            else:
                published(Path(folder), kind, options.layers, options.repeats)


if __name__ == "__main__":
    main()
