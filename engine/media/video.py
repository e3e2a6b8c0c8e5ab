"""A video's pictures as frames in our layouts: upright, whole, at their exact times."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import Interpolation, VideoReformatter

from engine.errors import SourceCorrupt
from engine.frames import Frame
from engine.media.fields import Timed, deinterlaced
from engine.media.formats import FULL_RANGE, from_ffmpeg, is_gray, is_ours, to_ffmpeg, view
from engine.media.info import Clip, MediaInfo
from engine.media.limits import decoder_limit
from engine.media.opening import decoder, open_container
from engine.media.survey import counted
from engine.media.upright import orientation_of
from engine.notes import Note

_FINE_SCALING = int(Interpolation.BICUBIC | Interpolation.ACCURATE_RND)

UNKNOWN_PIXELS = 8192 * 8192
"""What a decoder may make where the header does not say how large the frames are."""


@dataclass(slots=True)
class Tally:
    """What happened while decoding. `end` is when the last picture ends, seconds."""

    packets: int = 0
    pictures: int = 0
    repaired: int = 0
    damaged: list[Fraction] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    end: Fraction | None = None


def decoded(path: Path, info: MediaInfo, tally: Tally, seek: Fraction | None = None) -> Generator[av.VideoFrame]:
    """Decode the source's stream, from the key frame at or before `seek`. Raises av.FFmpegError where it breaks.

    What fails before the first picture is not counted as a break: recordings begin in the middle of things.
    """
    limit = decoder_limit(4 * info.raster.width * info.raster.height or UNKNOWN_PIXELS)
    counts = counted(info.codec)
    with open_container(path, limit) as container:
        stream: Any = container.streams[info.stream]
        context: Any = decoder(stream, limit)
        if seek is not None:
            container.seek(int(seek / stream.time_base), stream=stream, backward=True)
        for packet in container.demux(stream):
            tally.packets += counts(packet)
            try:
                pictures = context.decode(packet)
            except av.FFmpegError:
                if tally.pictures:
                    raise
                continue
            tally.pictures += len(pictures)
            yield from pictures


def frames_of(path: Path, info: MediaInfo, clip: Clip, notes: list[Note]) -> Generator[Frame]:
    """The clip's frames in order. Raises SourceCorrupt where the source breaks, after the frames before it."""
    tally = Tally()
    start = info.start + clip.first
    end = None if clip.stop is None else info.start + clip.stop
    index = 0
    pictures = _from_key_frame(path, info, tally, start) if clip.start else _timed(path, info, tally)
    with closing(_shown(pictures, info)) as frames:
        while clip.frame_stop is None or index < clip.frame_stop:
            try:
                frame = next(frames, None)
            except av.FFmpegError as problem:
                raise _broken(info, tally) from problem
            if frame is None:
                notes.extend(_findings(info, tally, from_start=not clip.start))
                if not info.complete:
                    raise _broken(info, tally)
                return
            if end is not None and frame.time >= end:
                break
            if frame.time < start:
                continue
            index += 1
            if index > clip.skip_frames:
                yield frame
            del frame
    notes.extend(_findings(info, tally, from_start=False))


def _broken(info: MediaInfo, tally: Tally) -> SourceCorrupt:
    seconds = (tally.end or info.start) - info.start
    where = f"frame {round(seconds * info.fps)} ({float(seconds):.3f} s)"
    text = f"the source breaks off at {where}: it is damaged there or was not transferred whole"
    return SourceCorrupt(text, hint="send the whole file, or set allow_partial to keep what comes before")


def _findings(info: MediaInfo, tally: Tally, *, from_start: bool) -> Iterator[Note]:
    """What the caller should hear of although every frame was made."""
    if tally.damaged:
        first = float(tally.damaged[0] - info.start)
        text = (
            f"{len(tally.damaged)} of the source's frames are damaged, the first at {first:.3f} s; they were patched up"
        )
        yield Note("DAMAGED_FRAMES", text)
    if from_start and tally.pictures < tally.packets:
        text = (
            f"the source holds {tally.packets} coded frames, of which {tally.packets - tally.pictures} show no picture"
        )
        yield Note("FRAMES_LOST", text)
    if tally.repaired:
        yield Note("TIMES_REPAIRED", f"{tally.repaired} frames of the source had no time, or not one after the last")
    if len(tally.sizes) > 1:
        text = f"the source changes size as it runs; all frames were made {info.raster.width}x{info.raster.height}"
        yield Note("SIZE_CHANGED", text)


def _from_key_frame(path: Path, info: MediaInfo, tally: Tally, start: Fraction) -> Generator[Timed]:
    """From somewhere at or before `start`: where the container jumps too far, from the beginning."""
    with closing(_timed(path, info, tally, start)) as pictures:
        try:
            first = next(pictures, None)
        except av.FFmpegError:
            first = None
        if first is not None and first.time <= start:
            yield first
            yield from pictures
            return
    tally.packets = tally.pictures = 0
    yield from _timed(path, info, tally)


def _timed(path: Path, info: MediaInfo, tally: Tally, seek: Fraction | None = None) -> Generator[Timed]:
    """Each picture with the time it begins and how long it is shown: until the next begins."""
    waiting: Timed | None = None
    break_: av.FFmpegError | None = None
    with closing(decoded(path, info, tally, seek)) as pictures:
        while True:
            try:
                picture = next(pictures, None)
            except av.FFmpegError as problem:
                picture, break_ = None, problem
            if picture is None:
                break
            new = _placed(picture, waiting, info, tally)
            if waiting is not None:
                yield waiting._replace(duration=new.time - waiting.time)
            waiting = new
            del picture, new
    if waiting is not None:
        yield waiting
    if break_ is not None:
        raise break_


def _placed(picture: av.VideoFrame, before: Timed | None, info: MediaInfo, tally: Tally) -> Timed:
    """The picture at its own time, or where it has none (or one in the past) right after the one before it."""
    base = picture.time_base or info.time_base
    length = picture.duration * base if picture.duration else 1 / info.fps
    time = None if picture.pts is None else picture.pts * base
    if time is None or (before is not None and time <= before.time):
        tally.repaired += 1
        time = (
            info.start if before is None else before.time + (before.duration or 1 / info.fps if time is None else base)
        )
    if picture.is_corrupt:
        tally.damaged.append(time)
    tally.sizes.add((picture.width, picture.height))
    tally.end = time + length
    return Timed(picture, time, length)


def _shown(pictures: Generator[Timed], info: MediaInfo) -> Generator[Frame]:
    """Decoded pictures as frames of the raster."""
    conformed = _conformed(pictures, info)
    if info.interlaced:
        conformed = _conformed(deinterlaced(conformed, info.bottom_first), info)
    with closing(pictures):
        orientation = None
        for picture, time, duration in conformed:
            orientation = orientation or orientation_of(picture)
            planes = tuple(orientation.turn(plane) for plane in view(picture))
            yield Frame(planes, time, duration)
            del picture, planes


def _conformed(pictures: Iterable[Timed], info: MediaInfo) -> Generator[Timed]:
    """Pictures in the raster's layout and (stored) size: as they are where they lie so already, else by swscale."""
    pixel = info.raster.pixel
    size = (info.raster.width, info.raster.height)
    stored = size[::-1] if info.rotation in (90, 270) else size
    reformatter = VideoReformatter()
    for timed in pictures:
        picture, name = timed.picture, timed.picture.format.name
        fits = (is_ours(name) or is_gray(name)) and from_ffmpeg(name) == pixel
        if not fits or (picture.width, picture.height) != stored:
            full = picture.format.is_rgb or name.startswith("yuvj")
            source_range = FULL_RANGE if full else int(picture.color_range)
            picture = reformatter.reformat(
                picture,
                *stored,
                to_ffmpeg(pixel),
                interpolation=_FINE_SCALING,
                src_color_range=source_range,
                dst_color_range=FULL_RANGE if pixel.model == "rgb" else source_range,
            )
            timed = timed._replace(picture=picture)
        yield timed
        del timed, picture
