"""Frames and how their samples lie in memory: what the decoder hands to a pipeline and a pipeline to the encoder.

NumPy only. Converting to and from the models' tensors is `pipelines.frames`' work; files are `media`'s.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The layout of one frame's samples.

    `yuv`: planes Y (H, W), U and V (ceil(H / sub_h), ceil(W / sub_w)), then A (H, W) when `alpha`.
    `rgb`: one interleaved plane (H, W, 3), or (H, W, 4) when `alpha`. Alpha is straight, never premultiplied.
    Samples are uint8 at 8 bits; above, uint16 in the machine's order with the value in the low `bits` bits.
    """

    model: Literal["yuv", "rgb"]
    bits: int = 8
    sub_w: Literal[1, 2] = 1
    sub_h: Literal[1, 2] = 1
    alpha: bool = False

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        return np.uint8 if self.bits == 8 else np.uint16

    def plane_shapes(self, width: int, height: int) -> list[tuple[int, ...]]:
        """Shapes of the planes of a frame of that size, in order."""
        if self.model == "rgb":
            return [(height, width, 4 if self.alpha else 3)]
        chroma = (-(-height // self.sub_h), -(-width // self.sub_w))
        return [(height, width), chroma, chroma, *([(height, width)] if self.alpha else [])]


RGB24 = PixelFormat("rgb")
RGBA32 = PixelFormat("rgb", alpha=True)
YUV420P = PixelFormat("yuv", 8, 2, 2)
YUV420P10 = PixelFormat("yuv", 10, 2, 2)


@dataclass(frozen=True, slots=True)
class Colour:
    """What the numbers mean, as code points of ITU-T H.273 (FFmpeg's enums hold the same values).

    primaries, transfer, matrix: 1 BT.709, 2 unspecified, 5/6 BT.601, 9 BT.2020; transfer 16 PQ, 18 HLG; matrix 0 is
    RGB. range: 0 unspecified, 1 limited, 2 full. chroma_location: 0 unspecified, 1 left, 2 centre, 3 top left.
    """

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0
    chroma_location: int = 0

    @property
    def hdr(self) -> bool:
        """Perceptual quantizer or hybrid log-gamma."""
        return self.transfer in (16, 18)


@dataclass(frozen=True, slots=True)
class Raster:
    """What every frame of a stream has in common: size in pixels (as shown, after rotation), layout and colour."""

    width: int
    height: int
    pixel: PixelFormat
    colour: Colour = Colour()

    @property
    def matrix(self) -> int:
        """H.273's code point of the YUV matrix: the tag, or what players guess where there is none.

        They take BT.709 from 1280 pixels of width or above 576 of height, else BT.601.
        """
        if self.colour.matrix not in (0, 2):
            return self.colour.matrix
        return 1 if self.width >= 1280 or self.height > 576 else 6


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its place in time.

    `planes` lie as `Raster.pixel` says and may be strided views into a decoder's buffer: read, never written.
    `time` is the presentation time in seconds, exact; `duration` likewise, or None where the source does not say.
    """

    planes: tuple[Plane, ...]
    time: Fraction
    duration: Fraction | None = None
