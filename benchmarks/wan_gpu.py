"""Wan2.1 at full size with random weights on a CUDA card: seconds of a guided step and of the autoencoder, and memory.

    python -m benchmarks.wan_gpu [--model 1.3b t2v-14b i2v-14b] [--size 480p 720p] [--peer] [--fp8] [--compile] [--json]
    python -m benchmarks.wan_gpu --device cpu --tiny --peer --fp8       the same code, tiny, to see that it runs

A row is 81 frames of a size as they would be planned on the card: a guided step and, with --split, one of two passes
where the plan has one; once to warm up and then `--repeats` times (medians). `share` is of the rate of one large matrix
product in bfloat16, operations counted as we run them. Peaks are what torch held at most, weights among them, beside
what was foreseen; the networks of text and image are left out. `--peer` times diffusers' step with the same weights in
the same rounds, and tells how near the velocities are. `--fp8` keeps the layers' matrices in one byte a value and tells
of products in fp8 on and off. For I2V-14B at 480P two figures from elsewhere stand beside ours, of one H100.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.card import DTYPE, GIB, allocated, demanded, described, free_bytes, guarded, matrix_rate, seconds
from benchmarks.turns import decibels
from benchmarks.wan.full_size import (
    CPU,
    Weights,
    build_dit,
    compile_blocks,
    dit_operations,
    dit_weights,
    multiply_in_fp8,
    networks,
    prompts,
    vae_operations,
)
from builder.tiny import wan_networks as tiny
from engine.models.wan.config import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig
from engine.models.wan.vae_config import SPATIAL, VAE, WanVAEConfig
from engine.pipelines.devices import release
from engine.pipelines.plans import choose
from engine.pipelines.wan.memory import Footprint, latent_frames
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.options import WanOptions
from engine.pipelines.wan.plan import Plan, ladder
from engine.pipelines.wan.preparation import condition
from engine.pipelines.wan.sampling import Denoiser

MODELS = {"1.3b": T2V_1_3B, "t2v-14b": T2V_14B, "i2v-14b": I2V_14B}
SIZES = {"480p": (832, 480), "720p": (1280, 720)}
ANCHORS = {("i2v-14b", (832, 480)): (5.18, 9.77)}  # s a step on one H100: the fastest open engine, diffusers
GUIDANCE, TIMESTEP, TEXT = 5.0, 700.0, 512
ROOM = 6 * GIB  # that stays free for work where weights are kept on the card

Size = tuple[int, int]  # width, height
Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured. split: guidance in two passes as well."""

    device: torch.device
    dits: dict[str, DiTConfig]
    sizes: Sequence[Size]
    repeats: int
    fp8: bool
    peer: bool
    split: bool
    frames: int = 81
    vae: WanVAEConfig = VAE


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds of pieces of work, and what the device held at most meanwhile, in GiB, but for `others` bytes."""

    bench: Bench
    others: int
    row: Row = field(default_factory=dict)

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        """What came of it the first time."""
        made = work()
        if self.bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.row[name] = statistics.median(seconds(work, self.bench.device) for _ in range(self.bench.repeats))
        self.row[f"{name}_peak"] = (allocated(self.bench.device, peak=True) - self.others) / GIB
        return made


def tiny_bench(bench: Bench) -> Bench:
    """The transformers' heads as wide as published."""
    dits = {name: tiny.DITS[config.task] for name, config in bench.dits.items()}
    return replace(bench, dits=dits, vae=tiny.VAE, sizes=((96, 64),), frames=9)


def rows(bench: Bench) -> Iterator[Row]:
    rate = matrix_rate(bench.device)
    for name, config in bench.dits.items():
        made = guarded(partial(loaded, bench, config), bench.device)
        if isinstance(made, str):
            yield {"model": name, "size": "", "problem": made}
            continue
        nets, peer = made
        for size in bench.sizes:
            row = guarded(partial(size_row, bench, nets, peer, size, rate), bench.device)
            told = {"problem": row} if isinstance(row, str) else {**row, "anchors": ANCHORS.get((name, size), ())}
            yield {"model": f"{name} fp8" if bench.fp8 else name, "size": "x".join(map(str, size)), **told}
        del made, nets, peer
        release(bench.device)


def loaded(bench: Bench, config: DiTConfig) -> tuple[Networks, torch.nn.Module | None]:
    """Ours, and diffusers' transformer, which has the very same tensors wherever those are of the same dtype."""
    itemsize = 1 if bench.fp8 else DTYPE.itemsize
    needed = itemsize * parameters(config) + ROOM
    place = bench.device if needed < free_bytes(bench.device) else CPU
    weights = dit_weights(config, bench.device, place, fp8=bench.fp8)
    peer = peer_of(config, weights, bench.device) if bench.peer else None
    return networks(build_dit(config, weights), bench.vae, bench.device), peer


def parameters(config: DiTConfig) -> int:
    """Of the layers, which is nearly all of them."""
    extra = 0 if config.image_dim is None else 2
    return config.layers * ((8 + extra) * config.dim**2 + 2 * config.dim * config.hidden)


def peer_of(config: DiTConfig, weights: Weights, device: torch.device) -> torch.nn.Module:
    from benchmarks.wan import peers

    return peers.transformer(config, weights, DTYPE, device)


@torch.inference_mode()
def size_row(bench: Bench, nets: Networks, peer: torch.nn.Module | None, size: Size, rate: float) -> Row:
    """What one size takes, phase by phase."""
    plan = planned(bench, nets, size)
    clock = Clock(bench, allocated(bench.device) - nets.here_bytes)
    latent = (latent_frames(bench.frames), size[1] // SPATIAL, size[0] // SPATIAL)
    encode(clock, nets, plan, size)
    steps(clock, nets, peer, plan, latent)
    clock("decode", lambda: sum(1 for _ in nets.decode(torch.randn(16, *latent), plan, nothing)))
    counts = vae_operations(bench.vae, bench.frames, size[1], size[0])
    counts["step"] = 2 * dit_operations(nets.dit.config, latent)
    made = clock.row
    for phase, name in (("encode", "encode"), ("step", "sample"), ("decode", "decode")):
        if phase in made:
            made[f"{phase}_share"] = counts[phase] / made[phase] / rate
            made[f"{phase}_plan"] = plan.peaks[name] / GIB
    return {**made, "plan": str(plan)}


def planned(bench: Bench, nets: Networks, size: Size) -> Plan:
    """What a job would begin with."""
    options = WanOptions(
        task=nets.dit.config.task,
        prompt="",
        frames=bench.frames,
        width=size[0],
        height=size[1],
        steps=50,
        guidance=GUIDANCE,
        shift=5.0,
        solver="unipc",
        seed=0,
        free_bytes=free_bytes(bench.device),
    )
    plans = ladder(Footprint.of(nets.sizes, options, size[0] * size[1], nets.dtype, bench.device))
    return plans[choose(plans, options.free_bytes + nets.here_bytes)]


def encode(clock: Clock, nets: Networks, plan: Plan, size: Size) -> None:
    """The condition that begins with a picture, where there is one."""
    if nets.dit.config.task == "i2v":
        picture = torch.rand(1, 3, size[1], size[0], device=nets.device).mul_(2).sub_(1)
        clock("encode", lambda: nets.encode_still(picture, clock.bench.frames, plan, nothing))


def steps(clock: Clock, nets: Networks, peer: torch.nn.Module | None, plan: Plan, latent: tuple[int, int, int]) -> None:
    """A guided step in all the ways that are asked for, the planned one first."""
    nets.bring("dit", plan)
    rows, image = prompts(nets.dit.config, nets.device)
    x = torch.randn(16, *latent, device=nets.device)
    given = None if image is None else condition(torch.randn_like(x))
    contexts = [nets.context(prompt, image) for prompt in rows]
    velocity = Denoiser(nets.dit, contexts, GUIDANCE, given, nets.dtype).velocity
    step = partial(velocity, x, TIMESTEP, check=nothing)
    ours = clock("step", lambda: step(batched=plan.batched))
    if clock.bench.split and plan.batched:
        clock("split", lambda: step(batched=False))
    if clock.bench.fp8:
        multiply_in_fp8(nets.dit, True)
        clock.row["fp8_db"] = decibels(ours, clock("fp8", lambda: step(batched=plan.batched)))
        multiply_in_fp8(nets.dit, False)
    if peer is not None:
        theirs = clock("peer", lambda: their_step(peer, x, rows, image, given))
        clock.row["peer_db"] = decibels(theirs, ours)


def their_step(
    peer: torch.nn.Module, x: Tensor, rows: list[Tensor], image: Tensor | None, given: Tensor | None
) -> Tensor:
    from benchmarks.wan import peers

    x = (x if given is None else torch.cat((x, given))).to(DTYPE)[None]
    picture = None if image is None else image[None]
    positive, negative = (peers.velocity(peer, x, TIMESTEP, peers.padded(row, TEXT), picture)[0] for row in rows)
    return negative.float() + GUIDANCE * (positive.float() - negative.float())


def nothing() -> None:
    pass


def shown(row: Row) -> str:
    """A few lines for one row."""
    head = f"{row['model']} {row['size']}"
    if "problem" in row:
        return f"{head}: {row['problem']}"
    lines = [f"{head}: {row['plan']}"]
    for phase in ("encode", "step", "decode"):
        if phase in row:
            memory = f"peak {row[f'{phase}_peak']:.2f} GiB of {row[f'{phase}_plan']:.2f} planned"
            lines.append(f"  {phase:8} {row[phase]:8.3f} s  {row[f'{phase}_share']:4.0%} of the matrix rate, {memory}")
    lines += [f"  {'split':8} {row['split']:8.3f} s"] if "split" in row else []
    if "fp8" in row:
        lines.append(f"  {'fp8':8} {row['fp8']:8.3f} s  {row['step'] / row['fp8']:.2f}x, {row['fp8_db']:.1f} dB")
    if "peer" in row:
        ratio, memory = row["peer"] / row["step"], f"peak {row['peer_peak']:.2f} GiB"
        lines.append(f"  {'diffusers':8} {row['peer']:7.3f} s  we {ratio:.2f}x, {row['peer_db']:.1f} dB, {memory}")
    if row["anchors"]:
        lines.append(f"  elsewhere, on one H100: {' and '.join(f'{anchor} s' for anchor in row['anchors'])}")
    return "\n".join(lines)


def parsed() -> tuple[Bench, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wan_gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", action="store_true", help="diffusers' step as well")
    parser.add_argument("--split", action="store_true", help="guidance in two passes as well")
    parser.add_argument("--fp8", action="store_true", help="the layers' matrices of one byte a value")
    parser.add_argument("--compile", action="store_true", help="torch.compile on the transformer's layers")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks and pictures")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    asked = parser.parse_args()
    bench = Bench(
        device=demanded(asked.device),
        dits={name: MODELS[name] for name in asked.model},
        sizes=[SIZES[name] for name in asked.size],
        repeats=asked.repeats,
        fp8=asked.fp8,
        peer=asked.peer,
        split=asked.split,
    )
    return tiny_bench(bench) if asked.tiny else bench, asked


def main() -> None:
    bench, asked = parsed()
    torch.manual_seed(0)
    if asked.compile:
        compile_blocks()
    if not asked.json:
        print(described(bench.device, compiled=asked.compile))
    for row in rows(bench):
        print(json.dumps(row) if asked.json else shown(row), flush=True)


if __name__ == "__main__":
    main()
