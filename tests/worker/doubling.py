"""A real family of models as small as can be: SeedVR2's requests, phases and files, and repeated pixels for a network.

A model's text file says how it fares: `good`, `foreign` (another model's tensors), `hungry` (never fits) or `broken`
(makes NaN).
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from engine.errors import Internal
from engine.frames import Frame, Raster
from engine.jobs.families import Family, SeedVR2Family, Setup, Use
from engine.notes import Note
from engine.pipelines.frames import from_rgb, resize, to_rgb
from engine.pipelines.plans import Plan, Ran
from engine.pipelines.protocol import Estimate, Watch
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.spans import chunks
from engine.weights.load import CheckpointMismatch

PHASES = ("encode", "dit", "decode", "color")
BATCH = 5


class Doubler:
    """Remembers what it was asked for."""

    def __init__(self, name: str, device: torch.device, dtype: torch.dtype, broken: bool) -> None:
        self.name = name
        self.device = device
        self.dtype = dtype
        self.broken = broken
        self.notes: list[Note] = []
        self.seconds: dict[str, float] = {}

    def __call__(
        self, frames: Iterable[Frame], source: Raster, target: Raster, options: SeedVR2Options, watch: Watch
    ) -> Iterator[Frame]:
        self.asked = options
        self.plan = planned(options, attempts=1)
        self.notes, self.seconds = [], dict.fromkeys(PHASES, 0.0)
        done = 0
        for batch in chunks(frames, self.plan.plan.batch):
            for number, phase in enumerate(PHASES):
                watch.phase(phase, done + len(batch) * number / len(PHASES))
                began = time.perf_counter()
                watch.check()
                if phase == "dit" and self.broken:
                    raise Internal("the model's output holds NaN", hint="use another precision", stage="process")
                self.seconds[phase] += time.perf_counter() - began
            x = to_rgb(batch, source, self.device, torch.float32)
            yield from from_rgb(resize(x, target.height, target.width), batch, target)
            done += len(batch)

    def warm(self, free_bytes: int) -> float:
        return 0.001


def planned(options: SeedVR2Options, attempts: int) -> Ran[Plan]:
    batch = min(options.batch_size or BATCH, BATCH)
    return Ran(Plan(batch, 0, 0, batch * 2**20), attempts)


class DoublingFamily(SeedVR2Family):
    """In SeedVR2's place, with SeedVR2's rules and options."""

    weight_bytes = Family.weight_bytes

    def load(self, setup: Setup) -> Doubler:
        dit = setup.file("dit")
        assert dit is not None
        with dit.open("rb") as file:
            fate = file.read(7).decode()
        if fate == "foreign":
            raise CheckpointMismatch(dit.name, missing=["blocks.0.attn.proj_qkv.vid.weight"])
        if fate.startswith("hungry"):
            raise torch.OutOfMemoryError("no memory")
        return Doubler(setup.model.name, setup.device, setup.dtype, fate.startswith("broken"))

    def estimate(
        self, setup: Setup, source: Raster, target: Raster, options: SeedVR2Options, use: Use[Doubler]
    ) -> Estimate:
        self.asked = options
        note = Note("BATCH_CAPPED", f"no more than {BATCH} frames fit")
        capped = options.batch_size is not None and options.batch_size > BATCH
        return Estimate(planned(options, attempts=0), 5 * 2**20, None, (note,) if capped else ())


def catalog_file(path: Path, *names: str) -> Path:
    """A catalog of models of one file each, besides the published autoencoder."""
    text = '[source.tests]\nlicence = "Apache-2.0"\n[file."tiny_vae.safetensors"]\nsource = "tests"\nrole = "vae"\n'
    for name in names:
        text += f"""
[file."{name}.safetensors"]
source = "tests"
role = "dit"

[[model]]
name = "{name}"
family = "seedvr2"
architecture = "3b"
tasks = ["upscale"]
description = "Repeats pixels"
parameters = 1
precision = "F32"
files = ["{name}.safetensors", "tiny_vae.safetensors"]
"""
    path.write_text(text)
    return path


def weight_file(folder: Path, name: str, fate: str = "good", size: int = 7) -> Path:
    """A weight file of `size` bytes that take no room on the disk."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.safetensors"
    with path.open("wb") as file:
        file.write(fate.encode())
        file.truncate(size)
    return path
