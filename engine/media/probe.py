"""What a file is: its kind, size, timing, colour, sound. What it is called does not matter."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from engine.errors import SourceCorrupt, SourceUnsupported
from engine.frames import Colour, PixelFormat, Raster
from engine.media import fields, stills
from engine.media.formats import colour_of, from_ffmpeg
from engine.media.info import AudioTrack, Ceilings, Clip, MediaInfo
from engine.media.limits import check_pixels, decoder_limit
from engine.media.opening import codec_name, footage, open_container
from engine.media.sniff import HEAD_BYTES, Look, look
from engine.media.survey import LONG_GAP, Timeline, survey
from engine.media.upright import orientation_of
from engine.media.video import Tally, decoded
from engine.media.wholeness import has_index, is_whole
from engine.notes import Note

__all__ = ["AudioTrack", "Ceilings", "Clip", "MediaInfo", "probe"]

WANTED = "a video (mp4, mov, mkv, webm, avi, gif, flv, wmv, ts) or a picture (png, jpg, webp, bmp, tiff) is needed"

CUT_ANYWHERE = ("ts", "mpeg")
"""Broadcast formats, which recorders cut where they please: a torso at the end is no sign of a loss."""

UNSPECIFIED = 2
"""H.273's code for primaries, transfer and matrix that nobody stated."""


def probe(path: Path, ceilings: Ceilings) -> MediaInfo:
    """Read a file's facts and check them against the ceilings, sizes before anything is decoded.

    Raises SourceUnsupported, SourceCorrupt, SourceTooLarge.
    """
    size = path.stat().st_size
    if not size:
        raise SourceUnsupported(f"the source is empty; {WANTED}")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    seen = look(head)
    if seen.family == "other":
        raise SourceUnsupported(f"the source is {seen.name}; {WANTED}")
    whole = is_whole(path, size, head, seen)
    if seen.family == "picture":
        return stills.probe_picture(path, seen.name, size, whole, ceilings)
    container = _open(path, seen, size, ceilings)
    with container:
        return _probe_video(path, container, size, _container_name(container, seen, head), whole, ceilings)


def _open(path: Path, seen: Look, size: int, ceilings: Ceilings) -> InputContainer:
    try:
        return open_container(path, decoder_limit(ceilings.pixels))
    except av.FFmpegError as problem:
        if seen.family != "video":
            raise SourceUnsupported(f"the source is {seen.name}; {WANTED}") from problem
        if seen.name in ("mp4", "mov") and not has_index(path, size):
            text = f"the source is an {seen.name} file without its index: it was cut off or never finished"
            raise SourceCorrupt(text) from problem
        if isinstance(problem, av.error.EOFError):
            raise SourceUnsupported(f"the source is an {seen.name} file that holds no frames") from problem
        raise SourceCorrupt(f"the source looks like {seen.name} but its header cannot be read") from problem


def _container_name(container: InputContainer, seen: Look, head: bytes) -> str:
    if seen.name == "mkv":
        return "webm" if b"\x42\x82\x84webm" in head[:128] else "mkv"
    return seen.name if seen.family == "video" else container.format.name.split(",")[0]


def _probe_video(
    path: Path, container: InputContainer, size: int, name: str, whole: bool, ceilings: Ceilings
) -> MediaInfo:
    streams = footage(container)
    if not streams:
        what = "only sound" if container.streams.audio else "no video frames"
        raise SourceUnsupported(f"the source is an {name} file that holds {what}; {WANTED}")
    stream = streams[0]
    context: Any = stream.codec_context
    if context is None:
        raise SourceUnsupported("the source's video codec cannot be decoded here; H.264, HEVC, VP9 or AV1 can")
    check_pixels(context.width, context.height, ceilings)
    timeline = survey(container, stream, ceilings)
    if not timeline.frames:
        raise SourceUnsupported(f"the source is an {name} file that holds no frames; {WANTED}")
    info = _described(container, stream, name, size, timeline)
    complete = whole and (not timeline.broken or name in CUT_ANYWHERE)
    info = replace(info, complete=complete, notes=tuple(_source_notes(container, streams, timeline)))
    return _looked_at(path, info, context, ceilings)


def _source_notes(container: InputContainer, streams: list[VideoStream], timeline: Timeline) -> Iterator[Note]:
    if len(streams) > 1:
        context: Any = streams[0].codec_context
        text = f"the source holds {len(streams)} videos: the one of {context.width}x{context.height} was taken"
        yield Note("VIDEO_STREAMS_IGNORED", text)
    if timeline.gap is not None:
        begin, length = (float(value) for value in timeline.gap)
        yield Note("GAP_IN_SOURCE", f"no picture begins for {length:.3f} s after {begin:.3f} s: frames may be missing")
    end = timeline.start + timeline.duration
    stated = _stated_end(container, streams[0])
    if stated is not None and stated - end > LONG_GAP:
        text = f"the source says that it lasts {float(stated):.3f} s, but its pictures end at {float(end):.3f} s"
        yield Note("ENDS_EARLY", text)


def _stated_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """When Matroska says that the stream ends: in the stream's own tag, else in the header where it is alone."""
    if not container.format.name.startswith("matroska"):
        return None
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds.rstrip("\0"))
    except ValueError:
        alone = len(container.streams) == 1
        return Fraction(container.duration, av.time_base) if alone and container.duration else None


def _described(container: InputContainer, stream: VideoStream, name: str, size: int, timeline: Timeline) -> MediaInfo:
    """What the container says; what only a decoded picture can say comes after."""
    context: Any = stream.codec_context
    return MediaInfo(
        kind="video",
        container=name,
        codec=codec_name(stream),
        raster=Raster(context.width, context.height, PixelFormat("yuv", 8, 2, 2)),
        rotation=0,
        sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
        fps=timeline.fps,
        frames=timeline.frames,
        duration=timeline.duration,
        start=timeline.start,
        time_base=stream.time_base or 1 / timeline.fps,
        variable_rate=timeline.variable_rate,
        interlaced=False,
        audio=tuple(_audio_track(track) for track in container.streams.audio),
        chapters=len(container.chapters()),
        bytes=size,
        animated=False,
        stream=stream.index,
    )


def _audio_track(track: Any) -> AudioTrack:
    language = track.language if track.language not in (None, "", "und") else None
    seconds = float(track.duration * track.time_base) if track.duration and track.time_base else None
    if track.codec_context is None:
        return AudioTrack("unknown", 0, 0, language, seconds)
    return AudioTrack(
        codec_name(track), track.codec_context.channels, track.codec_context.sample_rate, language, seconds
    )


def _looked_at(path: Path, info: MediaInfo, context: Any, ceilings: Ceilings) -> MediaInfo:
    """Complete the facts from the first picture, and from sixty where they may be interlaced."""
    field_order = int(getattr(context, "field_order", 0))
    with closing(decoded(path, info, Tally())) as pictures:
        try:
            first = next(pictures, None)
            if first is None:
                raise SourceCorrupt(f"none of the source's {info.frames} frames can be decoded")
            check_pixels(first.width, first.height, ceilings)
            verdict = fields.Verdict("progressive")
            info = _with_picture(info, first, context)
            if fields.may_be_interlaced(first, info.codec, field_order):
                verdict = fields.judge(islice(chain([first], pictures), fields.JUDGED_FRAMES), field_order)
        except av.FFmpegError as problem:
            raise SourceCorrupt("the source breaks within its first frames") from problem
    interlaced = verdict.kind == "interlaced"
    notes = (*info.notes, *_field_notes(verdict))
    return replace(info, interlaced=interlaced, bottom_first=verdict.bottom_first, notes=notes)


def _with_picture(info: MediaInfo, first: av.VideoFrame, context: Any) -> MediaInfo:
    """The raster as the reader will yield it, from the first decoded picture."""
    try:
        layout = from_ffmpeg(first.format.name)
    except ValueError as problem:
        raise SourceUnsupported(f"the source's pixel format {first.format.name} is not read here") from problem
    orientation, colour = orientation_of(first), _colour(first, context)
    size = orientation.size(first.width, first.height)
    ratio = info.sample_aspect_ratio
    return replace(
        info,
        raster=Raster(*size, orientation.layout(layout, first.width, first.height), colour),
        rotation=orientation.clockwise,
        sample_aspect_ratio=1 / ratio if orientation.swap else ratio,
    )


def _colour(first: av.VideoFrame, context: Any) -> Colour:
    """The picture's own tags; where it has none, those that the container wrote down."""
    own = colour_of(first)
    if own.matrix == 0:
        return own
    return replace(
        own,
        primaries=own.primaries if own.primaries != UNSPECIFIED else int(context.color_primaries),
        transfer=own.transfer if own.transfer != UNSPECIFIED else int(context.color_trc),
        matrix=own.matrix if own.matrix != UNSPECIFIED else int(context.colorspace),
        range=own.range or int(context.color_range),
    )


def _field_notes(verdict: fields.Verdict) -> Iterator[Note]:
    if verdict.kind == "interlaced":
        yield Note("DEINTERLACED", "the source is interlaced; each of its frames was made whole")
    if verdict.kind == "doubtful":
        yield Note("INTERLACED_MAYBE", "the source may be interlaced; its frames were left as they are")
