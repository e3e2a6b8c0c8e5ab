"""The size of frame that is accepted, checked from headers before a sample is decoded."""

from engine.errors import SourceTooLarge
from engine.media.info import Ceilings

MAX_SIDE = 16_384
"""H.264, VP9 and AV1 encoders go no further, and neither do most players."""

_ALIGNMENT = 64


def check_pixels(width: int, height: int, ceilings: Ceilings) -> None:
    """Raises SourceTooLarge, naming the limit."""
    if max(width, height) > MAX_SIDE:
        raise SourceTooLarge(f"the source's frames are {width}x{height}; a side may have at most {MAX_SIDE} pixels")
    if width * height > ceilings.pixels:
        size = f"{width}x{height} = {width * height} pixels"
        raise SourceTooLarge(f"the source's frames are {size}; at most {ceilings.pixels} are accepted")


def decoder_limit(pixels: int) -> int:
    """The same for FFmpeg's decoders, which count coded pixels: whole macroblocks, before cropping."""
    return pixels + 2 * MAX_SIDE * _ALIGNMENT
