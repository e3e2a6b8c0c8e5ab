"""FFmpeg's pixel formats in our terms, and frames' planes as arrays that share the decoder's memory.

Which conversion a foreign format needs is decided here; doing it is the decoder's work.
"""

import sys
from collections.abc import Sequence
from functools import cache

import av
import numpy as np

from engine.frames import Colour, PixelFormat, Plane

FULL_RANGE = 2
"""The code of `Colour.range` for samples that use every value."""

_ENDIAN = "le" if sys.byteorder == "little" else "be"
_CHROMA_NAMES = {(1, 1): "444", (2, 1): "422", (2, 2): "420"}


def to_ffmpeg(pixel: PixelFormat) -> str:
    """FFmpeg's name of one of our layouts. Raises ValueError where FFmpeg has no such layout."""
    if pixel.model == "rgb":
        if pixel.bits not in (8, 16):
            raise ValueError(f"rgb frames have 8 or 16 bits, not {pixel.bits}")
        name = "rgba" if pixel.alpha else "rgb"
        return {8: {"rgb": "rgb24"}.get(name, name), 16: f"{name}{64 if pixel.alpha else 48}{_ENDIAN}"}[pixel.bits]
    chroma = _CHROMA_NAMES.get((pixel.sub_w, pixel.sub_h))
    if chroma is None or (pixel.alpha and pixel.bits == 12 and chroma == "420") or pixel.bits not in (8, 10, 12):
        raise ValueError(f"no such yuv layout: {pixel}")
    depth = "" if pixel.bits == 8 else f"{pixel.bits}{_ENDIAN}"
    return f"yuv{'a' if pixel.alpha else ''}{chroma}p{depth}"


@cache
def _ours() -> dict[str, PixelFormat]:
    """Every FFmpeg name whose planes lie exactly as one of our layouts says."""
    layouts = [PixelFormat("rgb", bits, alpha=alpha) for bits in (8, 16) for alpha in (False, True)]
    for sub_w, sub_h in ((1, 1), (2, 1), (2, 2)):
        for bits in (8, 10, 12):
            layouts.append(PixelFormat("yuv", bits, sub_w, sub_h))  # type: ignore[arg-type]
            if (bits, sub_h) != (12, 2):
                layouts.append(PixelFormat("yuv", bits, sub_w, sub_h, alpha=True))  # type: ignore[arg-type]
    ours = {to_ffmpeg(layout): layout for layout in layouts}
    return ours | {name.replace("yuv", "yuvj"): ours[name] for name in ("yuv420p", "yuv422p", "yuv444p")}


def is_ours(name: str) -> bool:
    """True if frames of that FFmpeg format can be viewed as they lie (`yuvj...` too: only its range differs)."""
    return name in _ours()


def is_gray(name: str) -> bool:
    """Luma alone, in a depth whose samples become a Y plane as they lie."""
    return name in ("gray", f"gray10{_ENDIAN}", f"gray12{_ENDIAN}")


@cache
def from_ffmpeg(name: str) -> PixelFormat:
    """The nearest of our layouts that keeps what the format holds, up to 12 bits of YUV and 16 of RGB.

    Raises ValueError for formats whose samples are not in memory (hardware surfaces).
    """
    if name in _ours():
        return _ours()[name]
    video = av.VideoFormat(name)
    components = video.components
    if not components:
        raise ValueError(f"{name} has no samples in memory")
    bits = max(component.bits for component in components)
    alpha = video.has_palette or any(component.is_alpha for component in components)
    if is_gray(name):
        return PixelFormat("yuv", bits, 2, 2)
    if video.is_bayer:
        return PixelFormat("rgb", 16 if "16" in name else 8)
    if video.is_rgb or video.has_palette or len(components) < 3 or name.startswith("xyz"):
        return PixelFormat("rgb", 8 if bits <= 8 else 16, alpha=alpha)
    sub_w, sub_h = 16 // video.chroma_width(16), 16 // video.chroma_height(16)
    depth = next(ours for ours in (8, 10, 12) if bits <= ours or ours == 12)
    if sub_w == 1:
        return PixelFormat("yuv", depth, alpha=alpha)
    if sub_h == 1 or (alpha and depth == 12):  # FFmpeg has no 12-bit 4:2:0 with alpha
        return PixelFormat("yuv", depth, 2, 1, alpha=alpha)
    return PixelFormat("yuv", depth, 2, 2, alpha=alpha)


def view(frame: av.VideoFrame) -> tuple[Plane, ...]:
    """The planes of a frame in one of our layouts, sharing its memory: they keep the frame alive and are writable.

    A grey frame gets chroma planes of the neutral value; one stored bottom up is copied (torch takes no negative
    strides).
    """
    if is_gray(frame.format.name):
        pixel = from_ffmpeg(frame.format.name)
        luma, u_shape, v_shape = pixel.plane_shapes(frame.width, frame.height)
        neutral = [_neutral(shape, pixel) for shape in (u_shape, v_shape)]
        return _plane(frame, 0, luma, pixel.dtype), *neutral
    pixel = _ours()[frame.format.name]
    shapes = pixel.plane_shapes(frame.width, frame.height)
    return tuple(_plane(frame, index, shape, pixel.dtype) for index, shape in enumerate(shapes))


def _neutral(shape: tuple[int, ...], pixel: PixelFormat) -> Plane:
    value = 1 << (pixel.bits - 1)
    return np.full(shape, value, np.uint8) if pixel.bits == 8 else np.full(shape, value, np.uint16)


def _plane(frame: av.VideoFrame, index: int, shape: tuple[int, ...], dtype: type[np.uint8] | type[np.uint16]) -> Plane:
    plane = frame.planes[index]
    itemsize = np.dtype(dtype).itemsize
    pixel_bytes = itemsize * (shape[2] if len(shape) == 3 else 1)
    strides = (plane.line_size, pixel_bytes, itemsize)[: len(shape)]
    # A negative line size means that the picture is stored bottom up; the buffer begins at its last line.
    offset = (shape[0] - 1) * -plane.line_size if plane.line_size < 0 else 0
    samples = np.ndarray(shape, dtype, buffer=memoryview(plane), offset=offset, strides=strides)
    return samples.copy() if plane.line_size < 0 else samples


def fill(planes: Sequence[Plane], pixel: PixelFormat, width: int, height: int) -> av.VideoFrame:
    """A new frame that holds a copy of the planes."""
    frame = av.VideoFrame(width, height, to_ffmpeg(pixel))
    for target, source in zip(view(frame), planes, strict=True):
        np.copyto(target, source, casting="no")
    return frame


def colour_of(frame: av.VideoFrame) -> Colour:
    """The frame's colour tags. FFmpeg's older `yuvj...` names say full range by themselves, RGB its own matrix."""
    name = frame.format.name
    rgb = from_ffmpeg(name).model == "rgb"
    return Colour(
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        matrix=0 if rgb else int(frame.colorspace),
        range=FULL_RANGE if rgb or name.startswith("yuvj") else int(frame.color_range),
    )
