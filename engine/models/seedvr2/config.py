"""Sizes of SeedVR2's two diffusion transformers. SeedVR2, arXiv:2506.05301."""

from dataclasses import dataclass
from typing import Literal

HEAD = 128  # width of one attention head in both
INPUTS, OUTPUTS = 33, 16  # channels: noise, condition and mask in; velocity out
PATCH = 2  # rows and columns of the latent in one token

Kind = Literal["3b", "7b"]


@dataclass(frozen=True, slots=True)
class DiTConfig:
    """`separate` leading layers have weights of their own for video and for text; the others share one set."""

    kind: Kind
    dim: int
    layers: int
    hidden: int
    separate: int
    text_dim: int = 5120

    def __post_init__(self) -> None:
        if self.dim < HEAD or self.dim % HEAD:
            raise ValueError(f"the width is a multiple of {HEAD}, the width of a head: {self}")
        if min(self.layers, self.hidden, self.text_dim) < 1 or self.separate < 0:
            raise ValueError(f"a transformer has at least one layer and one unit in each: {self}")
        if self.kind == "7b" and self.separate != self.layers:
            raise ValueError(f"no layer of the 7B architecture is shared by video and text: {self}")
        if self.kind == "3b" and self.separate >= self.layers:
            raise ValueError(f"at least the last layer of the 3B architecture is shared by video and text: {self}")

    @property
    def heads(self) -> int:
        return self.dim // HEAD


DIT_3B = DiTConfig("3b", dim=2560, layers=32, hidden=6912, separate=10)
DIT_7B = DiTConfig("7b", dim=3072, layers=36, hidden=12288, separate=36)
