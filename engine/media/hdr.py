"""HDR10's static metadata: how bright and in which colours the mastering display was, and the content's peak light.

FFmpeg hands it out beside the first decoded picture, as C structures; each encoder wants it in words of its own.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from engine.media.opening import open_container

_RATIONALS = 10  # red, green, blue, white as x, y; then least and most luminance


@dataclass(frozen=True, slots=True)
class Mastering:
    """CIE 1931 coordinates of red, green, blue and white, and the display's luminance range in cd/m²."""

    red: tuple[Fraction, Fraction]
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    darkest: Fraction
    brightest: Fraction


@dataclass(frozen=True, slots=True)
class StaticHdr:
    """Either may be missing. `light` is MaxCLL and MaxFALL in cd/m²."""

    mastering: Mastering | None = None
    light: tuple[int, int] | None = None


def read(path: Path) -> StaticHdr:
    """What the file's first picture says; empty where it says nothing or cannot be decoded."""
    try:
        with open_container(path) as source:
            frame: Any = next(source.decode(video=0), None)
            side = {} if frame is None else {data.type.name: bytes(data) for data in frame.side_data}
    except av.error.FFmpegError:
        return StaticHdr()
    display, light = side.get("MASTERING_DISPLAY_METADATA"), side.get("CONTENT_LIGHT_LEVEL")
    return StaticHdr(_mastering(display) if display else None, struct.unpack_from("=2I", light) if light else None)


def _mastering(data: bytes) -> Mastering | None:
    """AVMasteringDisplayMetadata: ten rationals, then whether primaries and luminance are set."""
    numbers = struct.unpack_from(f"={2 * _RATIONALS + 2}i", data)
    if not all(numbers[2 * _RATIONALS :]):
        return None
    top, bottom = numbers[0 : 2 * _RATIONALS : 2], numbers[1 : 2 * _RATIONALS : 2]
    if not all(bottom):
        return None
    values = [Fraction(n, d) for n, d in zip(top, bottom, strict=True)]
    red, green, blue, white = ((values[index], values[index + 1]) for index in range(0, 8, 2))
    return Mastering(red, green, blue, white, darkest=values[8], brightest=values[9])


def x26x_options(hdr: StaticHdr, codec: str) -> dict[str, str]:
    """Parameters of x264 and x265: coordinates in 0.00002, luminance in 0.0001 cd/m²."""
    display, light = {"h264": ("mastering-display", "cll"), "hevc": ("master-display", "max-cll")}[codec]
    found: dict[str, str] = {}
    if hdr.mastering:
        found[display] = _display(hdr.mastering, lambda xy: round(xy * 50_000), lambda nits: round(nits * 10_000))
    if hdr.light:
        found[light] = f"{hdr.light[0]},{hdr.light[1]}"
    return found


def svt_options(hdr: StaticHdr) -> dict[str, str]:
    """Parameters of SVT-AV1: plain numbers."""
    found: dict[str, str] = {}
    if hdr.mastering:
        found["mastering-display"] = _display(hdr.mastering, float, float)
    if hdr.light:
        found["content-light"] = f"{hdr.light[0]},{hdr.light[1]}"
    return found


def _display(mastering: Mastering, xy: Any, nits: Any) -> str:
    """All three encoders read the same order of green, blue, red, white and luminance."""
    corners = {"G": mastering.green, "B": mastering.blue, "R": mastering.red, "WP": mastering.white}
    points = "".join(f"{name}({xy(x)},{xy(y)})" for name, (x, y) in corners.items())
    return f"{points}L({nits(mastering.brightest)},{nits(mastering.darkest)})"
