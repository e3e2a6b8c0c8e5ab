"""The graphics memory that each model needs, as the planner computes it, for the catalog.

python -m builder.needs                              prints it for every model
python -m builder.needs --write engine/catalog.toml  puts it there

A usual job is 540p to 1080p for SeedVR2, 81 frames under guidance for Wan2.1 at the area a model was made for, and 540p
at the network's own scale for Real-ESRGAN, in half precision, on a card that starts empty. `least` is the thriftiest
plan, of SeedVR2's those that restore frames together; `whole` is the roomiest: all networks stay, nothing is cut into
tiles. CUDA's own context counts. Nothing is run or read.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from math import prod
from pathlib import Path

import torch

from engine.catalog import Model, Needs, built_in
from engine.frames import RGB24, Raster
from engine.jobs.families import FAMILIES, Setup
from engine.models.esrgan.names import build
from engine.models.esrgan.rrdb import RRDBConfig
from engine.models.esrgan.srvgg import SRVGGConfig
from engine.models.seedvr2.config import DIT_3B, DIT_7B
from engine.models.seedvr2.vae_config import VAE
from engine.pipelines import plans
from engine.pipelines.esrgan import BATCH_PIXELS, CODES_GPU
from engine.pipelines.plans import MIB, Planned
from engine.pipelines.seedvr2 import memory as seedvr2_memory
from engine.pipelines.seedvr2 import plan as seedvr2_plan
from engine.pipelines.seedvr2.estimate import autoencoder_bytes
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.wan import memory as wan_memory
from engine.pipelines.wan import plan as wan_plan
from engine.pipelines.wan.estimate import model_sizes
from engine.pipelines.wan.options import WanOptions

CONTEXT = int(0.6 * 2**30)
CUDA, HALF = torch.device("cuda"), torch.bfloat16
SMALL, LARGE = Raster(960, 540, RGB24), Raster(1920, 1080, RGB24)
ESRGAN = (  # what is published, and ours
    SRVGGConfig(feat=32, convs=10, scale=2),
    SRVGGConfig(convs=16, scale=2),
    SRVGGConfig(convs=16, scale=4),
    SRVGGConfig(convs=32, scale=4),
    RRDBConfig(blocks=6),
    RRDBConfig(blocks=23),
    RRDBConfig(blocks=23, unshuffle=2),
)
ENTRY = re.compile(r'^\[\[model\]\]\nname = "([^"]+)"\n(?:.+\n)+', re.MULTILINE)


def needs(model: Model) -> Needs:
    """What a usual job of that model takes. Raises ValueError for a network of Real-ESRGAN that is none of ours."""
    match model.family:
        case "seedvr2":
            weights, ways = seedvr2(model)
        case "wan":
            weights, ways = 0, wan(model)  # whose plans count them
        case "esrgan":
            weights, ways = esrgan(model)
    taken = [CONTEXT + weights + way.bytes for way in ways]
    return Needs(least=-(-min(taken) // MIB), whole=-(-taken[0] // MIB))


def seedvr2(model: Model) -> tuple[int, Sequence[Planned]]:
    """Bytes of the weights, and the plans from the roomiest on."""
    options = SeedVR2Options(free_bytes=0)
    weights, footprint = seedvr2_footprint(model, SMALL, LARGE, options)
    return weights, [plan for plan in seedvr2_plan.ladder(footprint, options) if plan.batch > 1]


def seedvr2_footprint(
    model: Model, source: Raster, target: Raster, options: SeedVR2Options
) -> tuple[int, seedvr2_memory.Footprint]:
    """Bytes of the weights, and what a job takes beside them."""
    weights, vae_weights = FAMILIES["seedvr2"].weight_bytes(Setup(model, {}, CUDA, HALF)), autoencoder_bytes(HALF)
    footprint = seedvr2_memory.Footprint.of(
        DIT_3B if model.architecture == "3b" else DIT_7B,
        VAE,
        source,
        target,
        options,
        dtype=HALF,
        device=CUDA,
        dit_weights=weights - vae_weights,
        vae_weights=vae_weights,
    )
    return weights, footprint


def wan(model: Model, size: tuple[int, int] | None = None) -> Sequence[wan_plan.Plan]:
    """Plans from the fastest on, weights included. size: width and height, the model's own where none is given."""
    width, height = size or ((1280, 720) if (model.architecture or "").endswith("720p") else (832, 480))
    options = WanOptions(
        task="i2v" if "i2v" in model.tasks else "t2v",
        prompt="",
        frames=81,
        width=width,
        height=height,
        steps=50,
        guidance=5.0,
        shift=5.0,
        solver="unipc",
        seed=0,
        free_bytes=0,
    )
    return wan_plan.ladder(wan_memory.Footprint.of(wan_sizes(model), options, width * height, HALF, CUDA))


def wan_sizes(model: Model) -> wan_memory.Sizes:
    """Of the networks, as they are published."""
    published = {file.role: told for file in model.files if (told := model.bytes_of(file.role)) is not None}
    return model_sizes({}, model.architecture, HALF, published)


def esrgan(model: Model) -> tuple[int, Sequence[Planned]]:
    """Bytes of the weights, and the plans from the roomiest on."""
    config = next((c for c in ESRGAN if (parameters(c), c.scale) == (model.parameters, model.scale)), None)
    if config is None:
        raise ValueError(f"`{model.name}` has the size of no network that is known here")
    cost = plans.Cost(
        inside=config.bytes_per_pixel(HALF.itemsize),
        floor=0,
        scale=config.scale,
        channels=3,
        ratio=config.scale**2,
        copies=CODES_GPU,
        resized=False,
    )
    multiple = config.unshuffle if isinstance(config, RRDBConfig) else 1
    batch = BATCH_PIXELS // (SMALL.width * SMALL.height)
    ladder = plans.ladder(cost, SMALL.height, SMALL.width, batch=batch, tile=None, tile_pad=10, multiple=multiple)
    return model.parameters * HALF.itemsize, list(ladder)


@cache
def parameters(config: SRVGGConfig | RRDBConfig) -> int:
    with torch.device("meta"):
        return sum(prod(tensor.shape) for tensor in build(config).parameters())


def renewed(text: str, models: Iterable[Model]) -> str:
    """A catalog file's text, in which each of `models` has the line that tells what it needs."""
    known = {model.name: needs(model) for model in models}

    def entry(found: re.Match[str]) -> str:
        lines = [line for line in found[0].splitlines() if not line.startswith("needs = ")]
        if (need := known.get(found[1])) is not None:
            place = next(i for i, line in enumerate(lines) if line.startswith("precision = "))
            lines.insert(place + 1, f"needs = {{ least = {need.least:_}, whole = {need.whole:_} }}")
        return "\n".join(lines) + "\n"

    return ENTRY.sub(entry, text)


def rows(models: Iterable[Model]) -> Iterator[str]:
    for model in models:
        need = needs(model)
        yield f"{model.name:<52} {need.least:>6} MB to {need.whole:>6} MB"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m builder.needs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put it into that catalog file")
    chosen = parser.parse_args(arguments)
    if chosen.write:
        chosen.write.write_text(renewed(chosen.write.read_text("utf-8"), built_in().models), "utf-8")
    else:
        print("\n".join(rows(built_in().models)))


if __name__ == "__main__":
    main(sys.argv[1:])
