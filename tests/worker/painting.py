"""A real family of models as small as can be: Wan2.1's requests, files and rules, and plain colours for networks.

A model's text file says how it fares: `good` or `short` (makes a frame too few).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine.frames import Frame, Raster
from engine.jobs.families import Setup, WanFamily
from engine.notes import Note
from engine.pipelines.frames import from_rgb, resize, to_rgb
from engine.pipelines.generator import Source
from engine.pipelines.plans import Plan, Ran
from engine.pipelines.protocol import Estimate, Watch
from engine.pipelines.wan.options import WanOptions

ROLES = ("dit", "vae", "text_encoder", "image_encoder")
PLAN = Plan(1, 0, 0, 5 * 2**20)


@dataclass
class Painter:
    """Remembers what it was asked for and what it was given."""

    name: str
    setup: Setup
    short: bool = False
    notes: list[Note] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    plan: Ran[Plan] = field(default_factory=lambda: Ran(PLAN, attempts=1))
    asked: WanOptions | None = None
    given: list[torch.Tensor] = field(default_factory=list)
    negative: str = "unpainted"
    here_bytes: int = 0

    def __call__(self, source: Source | None, target: Raster, options: WanOptions, watch: Watch) -> Iterator[Frame]:
        self.asked, self.given = options, []
        self.notes, self.seconds = [Note("PAINTED", "no network was at work")], {"sample": 0.0, "decode": 0.0}
        watch.phase("text", 0)
        if source is not None:
            self.given = [to_rgb([frame], source.raster, torch.device("cpu"), torch.float32) for frame in source.frames]
        for step in range(options.steps):
            watch.check()
            watch.step(step, options.steps)
        watch.step(options.steps, options.steps)
        watch.phase("decode", 0)
        for number in range(options.frames - self.short):
            yield self._frame(number, target, options)

    def _frame(self, number: int, target: Raster, options: WanOptions) -> Frame:
        place = torch.full((1, 3, options.height, options.width), number / max(options.frames - 1, 1))
        if self.given:
            shown = self.given[min(number, len(self.given) - 1)][:, :3]
            place = resize(shown, options.height, options.width)
        return from_rgb(place, [Frame((), 0)], target)[0]  # type: ignore[arg-type]

    def warm(self, free_bytes: int) -> float:
        return 0.001


class PaintingFamily(WanFamily):
    """In Wan2.1's place, with its rules and options."""

    def load(self, setup: Setup) -> Any:
        dit = setup.file("dit")
        assert dit is not None
        return Painter(setup.model.name, setup, short=dit.read_text() == "short")

    def estimate(self, setup: Setup, source: Raster | None, options: WanOptions) -> Estimate:
        self.asked = options
        return Estimate(Ran(PLAN, attempts=0), PLAN.bytes, 0.5)


@dataclass(frozen=True)
class Entry:
    """A model of a catalog."""

    name: str
    tasks: tuple[str, ...] = ("t2v", "v2v")
    architecture: str = "t2v-1.3b"


ENTRIES = (
    Entry("tiny-t2v"),
    Entry("tiny-i2v-480p", ("i2v",), "i2v-14b-480p"),
    Entry("tiny-i2v-720p", ("i2v",), "i2v-14b-720p"),
    Entry("short"),
    Entry("absent"),
)
LORAS = {"fast": ("t2v-1.3b", "steps = 4\nguidance = 1.0\nshift = 7.0\nsolver = 'euler'"), "film": ("t2v-1.3b", ""),
         "moving": ("i2v-14b-480p", ""), "gone": ("t2v-1.3b", "")}  # fmt: skip


def painting_catalog(folder: Path) -> Path:
    """A catalog of Wan2.1's kind and its files; those of `absent` and of the LoRA `gone` are not there."""
    text = '[source.tests]\nlicence = "Apache-2.0"\n'
    for entry in ENTRIES:
        files = {role: f"{entry.name}-{role}.safetensors" for role in (*ROLES, "negative_prompt")}
        for role, name in files.items():
            text += f'[file."{name}"]\nsource = "tests"\nrole = "{role}"\n'
            if entry.name != "absent" and role != "negative_prompt":
                (folder / name).write_text("short" if entry.name == "short" else "good")
        text += f"""
[[model]]
name = "{entry.name}"
family = "wan"
architecture = "{entry.architecture}"
tasks = {list(entry.tasks)}
description = "Paints"
parameters = 1
precision = "BF16"
files = {list(files.values())}
"""
    for name, (architecture, settings) in LORAS.items():
        text += f'[file."{name}.safetensors"]\nsource = "tests"\nrole = "lora"\n'
        text += f'[[lora]]\nname = "{name}"\nfile = "{name}.safetensors"\nfor = ["{architecture}"]\n'
        text += f'description = "Changes"\n{settings}\n'
        if name != "gone":
            (folder / f"{name}.safetensors").write_text("lora")
    path = folder / "catalog.toml"
    path.write_text(text)
    return path
