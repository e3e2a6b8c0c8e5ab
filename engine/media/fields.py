"""Interlaced pictures: telling them from progressive ones, and making whole frames of them, one for one."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

import av
from av.filter import Graph

JUDGED_FRAMES = 60
_SILENT_CODECS = {"mjpeg", "ffv1", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "dnxhd", "v210", "mpeg4", "dvvideo"}
_BROADCAST_HEIGHTS = {480, 486, 512, 576, 608, 1080, 1088}
_INTERLACED_ORDERS = (2, 3, 4, 5)  # AVFieldOrder: top and bottom first, as coded and as shown


class Timed(NamedTuple):
    """A decoded picture with its exact time and duration in seconds."""

    picture: av.VideoFrame
    time: Fraction
    duration: Fraction | None


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Literal["progressive", "interlaced", "doubtful"]
    bottom_first: bool = False


def may_be_interlaced(first: av.VideoFrame, codec: str, field_order: int) -> bool:
    """Whether the frames deserve a closer look: flagged so, or of a kind that may be so without saying it."""
    flagged = first.interlaced_frame or field_order in _INTERLACED_ORDERS
    return flagged or (field_order == 0 and codec in _SILENT_CODECS and first.height in _BROADCAST_HEIGHTS)


def judge(frames: Iterable[av.VideoFrame], field_order: int) -> Verdict:
    """Weigh what the stream says against what its fields look like (FFmpeg's idet)."""
    graph: Graph | None = None
    seen = flagged = 0
    counts: dict[str, float] = {}
    for frame in frames:
        graph = graph or _graph(frame, Fraction(1, 1000), "idet")
        seen, flagged = seen + 1, flagged + frame.interlaced_frame
        frame.pts = seen
        graph.vpush(frame)
        for judged in _pulled(graph):
            counts = _counts(judged)
    woven, whole = counts.get("tff", 0) + counts.get("bff", 0), counts.get("progressive", 0)
    if flagged * 2 >= max(1, seen) or field_order in _INTERLACED_ORDERS:
        return Verdict("doubtful" if whole > max(4, 4 * woven) else "interlaced")
    if woven > max(4, 4 * whole):
        return Verdict("interlaced", counts["bff"] > counts["tff"])
    return Verdict("doubtful" if woven > max(4, whole) else "progressive")


def _counts(frame: av.VideoFrame) -> dict[str, float]:
    prefix = "lavfi.idet.multiple."
    found = {key.removeprefix(prefix): text for key, text in frame.metadata.items() if key.startswith(prefix)}
    return {key: float(text) for key, text in found.items() if key in ("tff", "bff", "progressive")}


def deinterlaced(frames: Iterable[Timed], bottom_first: bool) -> Iterator[Timed]:
    """As many frames as before at the same times, each whole (FFmpeg's bwdif)."""
    graph: Graph | None = None
    waiting: deque[Timed] = deque()
    parity = "bff" if bottom_first else "auto"
    for index, frame in enumerate(frames):
        graph = graph or _graph(frame.picture, Fraction(1, 1000), "bwdif", f"mode=send_frame:parity={parity}:deint=all")
        frame.picture.pts, frame.picture.time_base = index, Fraction(1, 1000)
        waiting.append(frame)
        graph.vpush(frame.picture)
        yield from _again_timed(graph, waiting)
    if graph is not None:
        graph.vpush(None)
        yield from _again_timed(graph, waiting)


def _again_timed(graph: Graph, waiting: deque[Timed]) -> Iterator[Timed]:
    """The filter keeps order and number, so each picture takes the time of the oldest that waits."""
    for picture in _pulled(graph):
        yield waiting.popleft()._replace(picture=picture)


def _graph(frame: av.VideoFrame, base: Fraction, name: str, arguments: str | None = None) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=base)
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink")).configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
