"""SeedVR2 at full size with random weights on a CUDA card: seconds and memory of each phase, and frames per second.

    python -m benchmarks.seedvr2_gpu [--model 3b 7b] [--fp8] [--compile] [--size 720p ...] [--batch 5 ...] [--json]
    python -m benchmarks.seedvr2_gpu --device cpu --tiny        the same code with tiny sizes, to see that it runs

A row is a batch through encoder, transformer and decoder as it would be planned, once to warm up and then `--repeats`
times (medians). `peak` is what torch held at most beyond what was there before, `plan` what was foreseen. The last two
columns are the networks' shares of the rate of one large matrix product, their operations counted as we run them.

Then whole streams, resized and with colours corrected, at 1080x1620, beside what the most used implementation reached
there with the 7B on one H100. A row that runs out of memory says so.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.card import GIB, allocated, demanded, described, free_bytes, guarded, matrix_rate, wait
from benchmarks.seedvr2.full_size import compile_layers, networks, operations
from builder.tiny import weights as tiny
from engine.frames import RGB24, Frame, Raster
from engine.models.seedvr2.config import DIT_3B, DIT_7B, DiTConfig
from engine.models.seedvr2.vae_config import VAE, VAEConfig
from engine.pipelines.devices import release
from engine.pipelines.seedvr2.memory import Footprint
from engine.pipelines.seedvr2.networks import Networks
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.pipeline import SeedVR2
from engine.pipelines.seedvr2.plan import Plan, begin, ladder

PHASES = ("encode", "dit", "decode")
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "1440p": (2560, 1440), "4k": (3840, 2160)}
STREAMS = {5: 0.63, 25: 1.65, 211: 2.53}
LONG = 100  # frames of a batch, of which one is a stream
HEAD = """\
                               ---- encode ---  ----- DiT -----  ---- decode ---             GiB         of peak rate
model    size     batch   tile  seconds  share   seconds  share   seconds  share     fps    peak   plan    DiT    VAE"""

Size = tuple[int, int]  # width, height
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured. streams: frames at once, and frames per second of the 7B elsewhere."""

    device: torch.device
    dits: dict[str, DiTConfig]
    batches: Sequence[int]
    repeats: int
    fp8: bool
    compiled: bool
    sizes: Sequence[Size]
    streams: Mapping[int, float]
    stream: Size = (1080, 1620)
    vae: VAEConfig = VAE


def tiny_bench(bench: Bench) -> Bench:
    dits = {kind: tiny.CONFIGS[kind] for kind in bench.dits}
    return replace(bench, dits=dits, vae=tiny.VAE, sizes=((96, 64),), batches=(1, 5), stream=(48, 80))


def rows(bench: Bench) -> Iterator[Row]:
    rate = matrix_rate(bench.device)
    for kind, config in bench.dits.items():
        for row in model_rows(bench, config, rate):
            yield {"model": f"{kind} fp8" if bench.fp8 else kind, **row}
        release(bench.device)


def model_rows(bench: Bench, config: DiTConfig, rate: float) -> Iterator[Row]:
    nets = guarded(partial(networks, config, bench.vae, bench.device, fp8=bench.fp8), bench.device)
    if isinstance(nets, str):
        yield {"size": "", "batch": "", "problem": nets}
        return
    if bench.compiled:
        compile_layers(nets)
    for size in bench.sizes:
        for batch in bench.batches:
            made = guarded(partial(batch_row, bench, nets, size, batch, rate), bench.device)
            yield {"size": named(size), "batch": batch, **({"problem": made} if isinstance(made, str) else made)}
    for batch, anchor in bench.streams.items():
        made = guarded(partial(stream_row, bench, nets, batch), bench.device)
        what = {"problem": made} if isinstance(made, str) else {**made, "anchor_fps": anchor}
        yield {"size": named(bench.stream), "batch": batch, **what}


@torch.inference_mode()
def batch_row(bench: Bench, nets: Networks, size: Size, batch: int, rate: float) -> Row:
    """What one batch takes."""
    options = SeedVR2Options(free_bytes=free_bytes(bench.device), frames=batch, batch_size=batch)
    footprint = Footprint.of(
        nets.dit.config,
        nets.vae.config,
        raster(size, half=True),
        raster(size),
        options,
        dtype=nets.dtype,
        device=nets.device,
        dit_weights=nets.dit_bytes,
        vae_weights=nets.vae_bytes,
    )
    plan = begin(ladder(footprint, options), options)
    if plan.batch < batch:
        return {"problem": f"does not fit; planned would be {plan}"}
    before = allocated(bench.device)
    clip = torch.rand(1, 3, batch, footprint.height, footprint.width, device=bench.device).mul_(2).sub_(1)
    one_pass(nets, clip, plan)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    passes = [one_pass(nets, clip, plan) for _ in range(bench.repeats)]
    peak = allocated(bench.device, peak=True) - before
    seconds = {phase: statistics.median(one[phase] for one in passes) for phase in PHASES}
    rates = {phase: count / seconds[phase] for phase, count in operations(nets, *clip.shape[2:]).items()}
    vae = seconds["encode"] + seconds["decode"]
    return {
        **seconds,
        "tile": plan.tile,
        "offload": plan.offload,
        "fps": batch / sum(seconds.values()),
        "peak_gib": peak / GIB,
        "plan_gib": plan.bytes / GIB,
        "dit_of_peak": rates["dit"] / rate,
        "vae_of_peak": sum(rates[phase] * seconds[phase] for phase in ("encode", "decode")) / vae / rate,
    }


def one_pass(nets: Networks, clip: Tensor, plan: Plan) -> dict[str, float]:
    """Seconds by phase of a clip (1, 3, F, H, W)."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(phase: str) -> Iterator[None]:
        wait(nets.device)
        begun = time.perf_counter()
        yield
        wait(nets.device)
        seconds[phase] = time.perf_counter() - begun

    with timed("encode"):
        latent = nets.encode(clip, plan, lambda: None)
    noise = torch.randn_like(latent[0])
    with timed("dit"):
        latent = nets.restore(latent, noise, plan, lambda: None)
    with timed("decode"):
        nets.decode(latent, plan, lambda: None)
    return seconds


def stream_row(bench: Bench, nets: Networks, batch: int) -> Row:
    """Frames per second of a stream of two batches that share nothing, or one where that is long; a batch warms up."""
    width, height = bench.stream
    pixels = np.random.default_rng(0).integers(0, 256, (height // 2, width // 2, 3), np.uint8)
    frames = [Frame((pixels,), Fraction(n, 25)) for n in range(batch if batch > LONG else 2 * batch)]
    options = SeedVR2Options(
        free_bytes=free_bytes(bench.device), batch_size=(batch + 2) // 4 * 4 + 1, temporal_overlap=0
    )
    model = SeedVR2(nets, "random weights")
    run = partial(model, source=raster(bench.stream, half=True), target=raster(bench.stream), options=options)
    list(run(frames[:batch]))
    begun = time.perf_counter()
    made = sum(1 for _ in run(frames))
    seconds = time.perf_counter() - begun
    shares = {phase: part / seconds for phase, part in model.seconds.items()}
    return {"fps": made / seconds, "shares": shares, "plan": str(model.plan.plan)}


def raster(size: Size, *, half: bool = False) -> Raster:
    return Raster(*(edge // (2 if half else 1) for edge in size), RGB24)


def named(size: Size) -> str:
    return "x".join(map(str, size))


def shown(row: Row) -> str:
    """A line of the table."""
    head = "{model:8} {size:9} {batch:>4}".format(**row)
    if "problem" in row:
        return f"{head}   {row['problem']}"
    if "shares" in row:
        shares = ", ".join(f"{phase} {share:.0%}" for phase, share in row["shares"].items())
        return f"{head}   {row['fps']:.2f} fps (7B elsewhere: {row['anchor_fps']}); {shares}; {row['plan']}"
    total = sum(row[phase] for phase in PHASES)
    phases = "  ".join(f"{row[phase]:8.3f} {row[phase] / total:6.0%}" for phase in PHASES)
    memory = f"{row['peak_gib']:6.2f} {row['plan_gib']:6.2f}"
    tile = f"{row['tile'] or 'whole'}{'*' if row['offload'] else ''}"
    return f"{head} {tile:>6} {phases} {row['fps']:7.2f}  {memory} {row['dit_of_peak']:6.0%} {row['vae_of_peak']:6.0%}"


def parsed() -> tuple[Bench, bool]:
    """What is asked for, and whether as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.seedvr2_gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    full = {"3b": DIT_3B, "7b": DIT_7B}
    parser.add_argument("--model", nargs="+", choices=full, default=list(full))
    parser.add_argument("--size", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batch", nargs="+", type=int, default=(5, 21, 81), help="of the form 4n+1")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--fp8", action="store_true", help="the layers' matrices of one byte a value")
    parser.add_argument("--compile", action="store_true", help="torch.compile on the networks' layers")
    parser.add_argument("--no-streams", action="store_true", help="single batches alone")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and pictures")
    parser.add_argument("--json", action="store_true", help="a JSON object a line instead of the table")
    asked = parser.parse_args()
    bench = Bench(
        device=demanded(asked.device),
        dits={kind: full[kind] for kind in asked.model},
        batches=asked.batch,
        repeats=asked.repeats,
        fp8=asked.fp8,
        compiled=asked.compile,
        sizes=[SIZES[name] for name in asked.size],
        streams={} if asked.no_streams else STREAMS,
    )
    return tiny_bench(bench) if asked.tiny else bench, asked.json


def main() -> None:
    bench, as_json = parsed()
    if bench.compiled:
        torch._dynamo.config.cache_size_limit = 256  # a layer is compiled for each shape of window and frame
    if not as_json:
        print(f"{described(bench.device, compiled=bench.compiled)}\n{HEAD}")
    for row in rows(bench):
        print(json.dumps(row) if as_json else shown(row), flush=True)


if __name__ == "__main__":
    main()
