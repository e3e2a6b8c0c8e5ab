"""What a caller may ask of Wan2.1, already valid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.pipelines.wan.schedules import Kind

Task = Literal["t2v", "i2v", "v2v"]
Fit = Literal["keep", "crop", "pad"]


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A low-rank change of the transformer's weights, and how much of it is added to them."""

    name: str
    path: Path
    strength: float


@dataclass(frozen=True, slots=True)
class WanOptions:
    """width and height are multiples of 16; frames is any number: what the model makes beyond it is cut.

    negative: None for the model's own. guidance: 1 turns it off. strength: v2v's share of the schedule. fit: how an
    image or a video of another shape is made to fit: stretched (for sizes that keep its aspect), cropped, or padded.
    free_bytes: of the device, what is loaded there aside.
    """

    task: Task
    prompt: str
    frames: int
    width: int
    height: int
    steps: int
    guidance: float
    shift: float
    solver: Kind
    seed: int
    free_bytes: int
    negative: str | None = None
    strength: float = 0.8
    fit: Fit = "keep"
    loras: tuple[LoraFile, ...] = ()
