"""Read a finished file again before the job may succeed: what went in came out, and it plays."""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

from engine.errors import Internal
from engine.media.formats import to_ffmpeg
from engine.media.outputs import CONTAINERS, OutputSpec, default_codec

_PIECE = 2**20
_ROUNDING = Fraction(1, 500)
"""Two roundings to Matroska's milliseconds."""


@dataclass(frozen=True, slots=True)
class OutputInfo:
    """The written file as it was read back; `duration` in seconds from the first picture's start to the last's end."""

    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    frames: int
    fps: Fraction
    duration: Fraction
    audio_tracks: int
    bytes: int
    sha256: str
    content_type: str


def verify(path: Path, spec: OutputSpec, *, frames: int, duration: Fraction, audio_tracks: int) -> OutputInfo:
    """Probe the written file. Raises Internal where it is not what was asked for.

    duration: seconds that the pictures took in the source; it may differ by one frame. Stills and sequences have none.
    """
    try:
        found = _PROBES[CONTAINERS[spec.container].kind](path, spec)
    except (av.error.FFmpegError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise Internal(f"the written file cannot be read back: {type(error).__name__}") from error
    if (found.width, found.height) != (spec.width, spec.height):
        size = f"{found.width}x{found.height}"
        raise Internal(f"the written file's pictures are {size} instead of {spec.width}x{spec.height}")
    if found.frames != frames:
        raise Internal(f"the written file has {found.frames} frames instead of {frames}")
    timed = CONTAINERS[spec.container].kind in ("video", "animation") and frames > 1
    if timed and abs(found.duration - duration) > 1 / spec.fps + _ROUNDING:
        raise Internal(f"the written file lasts {float(found.duration):.3f} s instead of {float(duration):.3f} s")
    if found.audio_tracks != audio_tracks:
        raise Internal(f"the written file has {found.audio_tracks} audio tracks instead of {audio_tracks}")
    return replace(found, bytes=path.stat().st_size, sha256=_sha256(path))


def _probe_video(path: Path, spec: OutputSpec) -> OutputInfo:
    with av.open(str(path)) as file:
        stream: Any = file.streams.video[0]
        if next(file.decode(stream), None) is None:
            raise ValueError("no picture of it can be decoded")
        format_name = "yuva420p" if stream.metadata.get("alpha_mode") == "1" else stream.codec_context.pix_fmt
        found = _info(
            spec,
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=format_name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            fps=stream.average_rate or spec.fps,
            audio_tracks=len(file.streams.audio),
        )
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames, duration = _count(file, stream)
        if stream.duration and stream.time_base:  # MP4 knows a track's length better than its packets do
            duration = stream.duration * stream.time_base
    return replace(found, frames=frames, duration=duration)


def _count(file: Any, stream: Any) -> tuple[int, Fraction]:
    """Pictures in the stream, and the seconds from the first one's start to the last one's end."""
    frames, start, end = 0, None, Fraction(0)
    for packet in file.demux(stream):
        if packet.size == 0 or packet.pts is None:
            continue
        frames += 1
        begin = packet.pts * packet.time_base
        start = begin if start is None else min(start, begin)
        end = max(end, begin + (packet.duration or 0) * packet.time_base)
    return frames, end - (start or 0)


def _probe_animation(path: Path, spec: OutputSpec) -> OutputInfo:
    if spec.container == "webp":
        delays = [int.from_bytes(body[12:15], "little") for name, body in _riff_chunks(path) if name == b"ANMF"]
        return replace(_probe_still(path, spec), frames=len(delays) or 1, duration=Fraction(sum(delays), 1000))
    return _probe_video(path, spec)


def _riff_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The name and first bytes of every chunk of a WebP."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            end = file.tell() + size + size % 2
            yield head[:4], file.read(min(size, 16))
            file.seek(end)


def _probe_still(path: Path, spec: OutputSpec) -> OutputInfo:
    with path.open("rb") as file:
        return _picture(file, spec)


def _probe_archive(path: Path, spec: OutputSpec) -> OutputInfo:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if archive.testzip() is not None:
            raise ValueError("a picture in the archive is damaged")
        with archive.open(names[0]) as file:
            found = _picture(file, spec)
    return replace(found, frames=len(names), duration=len(names) / spec.fps)


def _picture(file: Any, spec: OutputSpec) -> OutputInfo:
    with Image.open(file) as image:
        image.load()
        width, height = image.size
    pixel = replace(spec.pixel, alpha=False) if spec.container == "jpg" else spec.pixel
    return _info(spec, codec=default_codec(spec.container), pixel_format=to_ffmpeg(pixel), width=width, height=height)


def _info(spec: OutputSpec, **known: Any) -> OutputInfo:
    blank = OutputInfo(
        container=spec.container,
        codec="",
        pixel_format="",
        width=0,
        height=0,
        frames=1,
        fps=spec.fps,
        duration=Fraction(0),
        audio_tracks=0,
        bytes=0,
        sha256="",
        content_type=CONTAINERS[spec.container].content_type,
    )
    return replace(blank, **known)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


_PROBES = {
    "video": _probe_video,
    "animation": _probe_animation,
    "still": _probe_still,
    "archive": _probe_archive,
}
