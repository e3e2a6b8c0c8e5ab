"""Frames for the writer's tests, the shortest way to write them, and what players see of the file."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from engine.frames import Frame, PixelFormat
from engine.media.encode import OutputSpec, choose_pixel, create
from engine.media.info import Ceilings, Clip, MediaInfo
from engine.media.outputs import default_codec
from engine.media.probe import probe
from engine.notes import Note

SIZE = (64, 48)
ANY = Ceilings(seconds=3600, frames=10_000, pixels=10**9)


def spec_for(container: str, codec: str | None = None, **options: Any) -> OutputSpec:
    """A spec for 64x48 at 25 frames per second; `bit_depth` and `alpha` choose the layout, the rest is passed on."""
    pixel = choose_pixel(container, codec, options.pop("bit_depth", 8), options.pop("alpha", False))
    given = {"width": SIZE[0], "height": SIZE[1], "preset": "ultrafast", "fps": Fraction(25), **options}
    return OutputSpec(container=container, codec=codec or default_codec(container), pixel=pixel, **given)


def planes(index: int, pixel: PixelFormat, width: int = SIZE[0], height: int = SIZE[1]) -> tuple[NDArray[Any], ...]:
    """A smooth picture that changes with the index; alpha, where there is one, is clear at the left."""
    top = 2**pixel.bits - 1
    made = []
    for number, shape in enumerate(pixel.plane_shapes(width, height)):
        y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
        smooth = (0.2 + 0.5 * x / max(1, shape[1] - 1) + 0.1 * y / max(1, shape[0] - 1) + index % 16 / 100) * top
        plane = np.stack([smooth * (1 - 0.2 * c) for c in range(shape[2])], -1) if len(shape) == 3 else smooth
        if pixel.model == "yuv" and number in (1, 2):
            plane = np.full(shape, (0.5 + 0.1 * number) * top)
        if pixel.model == "yuv" and number == 3:
            plane = np.where(x < shape[1] // 4, 0, top)
        if pixel.model == "rgb" and pixel.alpha:
            plane[..., 3] = np.where(x < shape[1] // 4, 0, top)
        made.append(np.rint(plane).astype(pixel.dtype))
    return tuple(made)


def frames(count: int, pixel: PixelFormat, times: Sequence[Fraction] | None = None, **size: int) -> Iterator[Frame]:
    """Frames every 1/25 s, or at those times (the last entry is the last frame's end)."""
    edges = times or [Fraction(n, 25) for n in range(count + 1)]
    for index in range(count):
        yield Frame(planes(index, pixel, **size), edges[index], edges[index + 1] - edges[index])


def write(
    path: Path,
    spec: OutputSpec,
    stream: Iterable[Frame],
    source: Path | None = None,
    clip: Clip = Clip(),  # noqa: B008
) -> list[Note]:
    """Write them all; the notes that came of it."""
    origin: tuple[Path, MediaInfo, Clip] | None = (source, probe(source, ANY), clip) if source else None
    with create(path, spec, origin) as writer:
        for frame in stream:
            writer.write(frame)
    return writer.warnings


def decoded(path: Path, decoder: str | None = None) -> list[Any]:
    """Every picture of the file, decoded by PyAV."""
    with av.open(str(path)) as file:
        if decoder is None:
            return list(file.decode(video=0))
        context: Any = av.CodecContext.create(decoder, "r")
        return [frame for packet in file.demux(video=0) for frame in context.decode(packet if packet.size else None)]


def times_of(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in decoded(path)]


def psnr(ours: NDArray[Any], theirs: NDArray[Any], bits: int = 8) -> float:
    """Decibels between two planes."""
    error = np.mean((ours.astype(float) - theirs.astype(float)) ** 2)
    return float(10 * np.log10((2**bits - 1) ** 2 / max(error, 1e-9)))


def audio_times(path: Path, track: int = 0) -> tuple[float, float]:
    """When the track's first decoded sample sounds, and when its last has."""
    with av.open(str(path)) as file:
        heard = [frame for frame in file.decode(audio=track) if frame.pts is not None]
    first, last = heard[0], heard[-1]
    return float(first.pts * first.time_base), float(last.pts * last.time_base) + last.samples / last.sample_rate


__all__ = [
    "ANY",
    "SIZE",
    "audio_times",
    "decoded",
    "frames",
    "planes",
    "psnr",
    "replace",
    "spec_for",
    "times_of",
    "write",
]
