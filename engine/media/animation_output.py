"""Animated GIF and WebP, a frame at a time.

Both hold every frame whole, so that as many come out as went in and memory does not grow with their number.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

from engine.errors import Internal
from engine.frames import Frame
from engine.media.formats import fill, to_ffmpeg
from engine.media.outputs import OutputSpec, picture_quality
from engine.media.sinks import Source, Ticks
from engine.media.still_output import StillFile
from engine.notes import Note

_GIF_TICK = Fraction(1, 100)
_WEBP_TICK = Fraction(1, 1000)
_SLOWED_BELOW = Fraction(2, 100)
"""Browsers show GIF frames that ask for less than this ten times slower."""


class _Animation:
    """One stream of whole frames; `_pictures` makes what the encoder takes."""

    def __init__(self, path: Path, spec: OutputSpec, muxer: str, encoder: str, tick: Fraction, loops: int) -> None:
        self.notes: list[Note] = []
        self.audio_tracks = 0
        self._spec = spec
        self._ticks = Ticks(tick)
        self._durations: dict[int, int] = {}
        self._started = False
        self._output = av.open(str(path), "w", format=muxer, container_options={"loop": str(loops)})
        self._stream: Any = self._output.add_stream(
            encoder, rate=spec.fps.limit_denominator(65_535), width=spec.width, height=spec.height
        )
        self._stream.codec_context.time_base = self._stream.time_base = tick

    def write(self, frame: Frame) -> None:
        if not self._started:
            self._ticks.shift, self._started = frame.time, True
        picture: Any = fill(frame.planes, self._spec.pixel, self._spec.width, self._spec.height)
        picture.pts, picture.time_base = self._ticks.stamp(frame.time), self._ticks.base
        end = frame.time + (frame.duration or 1 / self._spec.fps)
        # Measured from where the rounded frame stands to its rounded end, lest roundings add up.
        picture.duration = max(1, round((end - self._ticks.shift) / self._ticks.base) - picture.pts)
        self._durations[picture.pts] = picture.duration
        self._mux(self._pictures(picture))

    def finish(self) -> None:
        if not self._started:
            raise Internal("no frame reached the encoder; the pipeline must yield at least one")
        self._mux([*self._last_pictures(), None])
        self._output.close()

    def abort(self) -> None:
        self._output.close()

    def _pictures(self, picture: Any) -> Iterable[Any]:
        raise NotImplementedError

    def _last_pictures(self) -> Iterable[Any]:
        return ()

    def _mux(self, pictures: Iterable[Any]) -> None:
        for picture in pictures:
            for packet in self._stream.encode(picture):
                packet.duration = self._durations.pop(packet.pts, packet.duration)
                self._output.mux(packet)


class GifFile(_Animation):
    """GIF with a palette of its own for every frame."""

    def __init__(self, path: Path, spec: OutputSpec, source: Source | None) -> None:
        super().__init__(path, spec, "gif", "gif", _GIF_TICK, _repeats(source, once=-1))
        self._stream.codec_context.pix_fmt = "pal8"
        self._graph, self._sink = _palette_graph(spec)
        if 1 / spec.fps < _SLOWED_BELOW:
            text = f"many viewers slow a GIF down that shows {float(spec.fps):g} frames per second; 50 is the most"
            self.notes.append(Note("GIF_TOO_FAST", text))

    def _pictures(self, picture: Any) -> Iterator[Any]:
        self._graph.push(picture)
        return self._ready()

    def _last_pictures(self) -> Iterator[Any]:
        self._graph.push(None)
        return self._ready()

    def _ready(self) -> Iterator[Any]:
        while True:
            try:
                yield self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return


class AnimatedWebp(_Animation):
    """WebP of whole frames."""

    def __init__(self, path: Path, spec: OutputSpec, source: Source | None) -> None:
        super().__init__(path, spec, "webp", "libwebp", _WEBP_TICK, _repeats(source, once=1))
        self._stream.codec_context.pix_fmt = "bgra"
        lossless = {"lossless": "1"} if spec.crf == 0 else {"quality": str(picture_quality(spec.crf))}
        self._stream.options = lossless

    def _pictures(self, picture: Any) -> Iterator[Any]:
        yield picture.reformat(format="bgra")


class WebpFile:
    """A still while there is one frame, an animation from the second on."""

    def __init__(self, path: Path, spec: OutputSpec, source: Source | None) -> None:
        self.notes: list[Note] = []
        self.audio_tracks = 0
        self._path, self._spec, self._source = path, spec, source
        self._first: Frame | None = None
        self._animation: AnimatedWebp | None = None

    def write(self, frame: Frame) -> None:
        if self._first is None and self._animation is None:
            self._first = frame
            return
        if self._animation is None:
            self._animation = AnimatedWebp(self._path, self._spec, self._source)
            assert self._first is not None
            self._animation.write(self._first)
            self._first = None
        self._animation.write(frame)

    def finish(self) -> None:
        if self._animation is not None:
            self._animation.finish()
            return
        still = StillFile(self._path, self._spec, self._source)
        if self._first is not None:
            still.write(self._first)
        still.finish()

    def abort(self) -> None:
        if self._animation is not None:
            self._animation.abort()


def _repeats(source: Source | None, *, once: int) -> int:
    """How often the animation is shown, 0 for ever: as an animated source says, else for ever.

    `once` is the muxer's number for a source that says nothing of repeating, which is shown once.
    """
    if source is None or not source.info.animated:
        return 0
    with Image.open(source.path) as image:
        return int(image.info.get("loop", once))


def _palette_graph(spec: OutputSpec) -> tuple[Any, Any]:
    """Frames in, the same frames out in 256 colours chosen for each: (graph, its sink)."""
    graph: Any = av.filter.Graph()
    source = graph.add_buffer(width=spec.width, height=spec.height, format=to_ffmpeg(spec.pixel), time_base=_GIF_TICK)
    split = graph.add("split")
    choose = graph.add("palettegen", "stats_mode=single:reserve_transparent=1")
    use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph, sink
