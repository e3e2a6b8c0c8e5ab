"""Sizes of Wan2.1's diffusion transformers. Wan, arXiv:2503.20314."""

from dataclasses import dataclass
from typing import Literal

PATCH = 2  # rows and columns of the latent in one token
EPS = 1e-6  # of the norms inside the blocks and before the head

Task = Literal["t2v", "i2v"]


@dataclass(frozen=True, slots=True)
class DiTConfig:
    """`inputs` and `outputs` are channels of the latent, `times` the sines and cosines of the timestep.

    `text_len` is what a prompt is padded to with rows of zeros. `image_dim` is the width of the CLIP features that an
    i2v network also attends to.
    """

    task: Task
    dim: int
    hidden: int
    heads: int
    layers: int
    inputs: int
    outputs: int = 16
    times: int = 256
    text_dim: int = 4096
    text_len: int = 512
    image_dim: int | None = None

    def __post_init__(self) -> None:
        counts = (self.dim, self.hidden, self.heads, self.layers, self.inputs, self.outputs, self.text_dim)
        if min(counts) < 1 or self.text_len < 1:
            raise ValueError(f"a transformer has at least one layer and one unit in each: {self}")
        if self.dim % (2 * self.heads):
            raise ValueError(f"the heads share the width evenly, in pairs of values: {self}")
        if self.times < 2 or self.times % 2:
            raise ValueError(f"the timestep has as many sines as cosines: {self}")
        if (self.image_dim is None) != (self.task == "t2v"):
            raise ValueError(f"an i2v network attends to an image, and only that one does: {self}")

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads


T2V_1_3B = DiTConfig("t2v", dim=1536, hidden=8960, heads=12, layers=30, inputs=16)
T2V_14B = DiTConfig("t2v", dim=5120, hidden=13824, heads=40, layers=40, inputs=16)
I2V_14B = DiTConfig("i2v", dim=5120, hidden=13824, heads=40, layers=40, inputs=36, image_dim=1280)
