"""Everything of the source that is not its pictures: audio and subtitle tracks, chapters, metadata.

The source is opened a second time, and its packets are handed over as far as the pictures have come, so that the
output is interleaved and nothing piles up.
"""

import logging
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import Any

import av

from engine.media.audio import CopiedTrack, EncodedTrack, Span, Track, can_copy, carry_tags
from engine.media.opening import open_container
from engine.media.outputs import CONTAINERS
from engine.notes import Note

log = logging.getLogger(__name__)

MOVIE_TAGS = frozenset(
    {
        "title",
        "artist",
        "album",
        "album_artist",
        "author",
        "comment",
        "composer",
        "copyright",
        "creation_time",
        "date",
        "description",
        "genre",
        "keywords",
        "language",
        "location",
        "network",
        "performer",
        "publisher",
        "show",
        "synopsis",
        "track",
    }
)
"""Tags that speak of the work. The rest (brands, encoder, rotation, statistics) speak of the file that was read."""

_MILLISECOND = Fraction(1, 1000)
_LEAD = Fraction(1)
"""Seconds before a cut at which reading begins, for decoders to warm up."""


class SubtitleTrack:
    """Subtitle packets handed on, those that lie wholly outside the span left out."""

    def __init__(self, source: Any, output: Any) -> None:
        self.source = source
        self._target = output.add_stream_from_template(source)
        carry_tags(source, self._target)

    def feed(self, packet: Any, span: Span) -> Iterator[Any]:
        if packet.pts is None:
            return
        start = packet.pts * packet.time_base
        end = start + (packet.duration or 0) * packet.time_base
        if (span.begin is not None and end <= span.begin) or (span.end is not None and start >= span.end):
            return
        packet.pts = max(round((start - span.shift) / packet.time_base), 0)
        packet.dts = packet.pts
        packet.stream = self._target
        yield packet

    def finish(self, span: Span) -> Iterator[Any]:
        yield from ()


class SideStreams:
    """The tracks beside the pictures, on their way from one container to another.

    `silent` is, once finished, how many audio tracks had nothing to give.
    """

    def __init__(self, path: Path, output: Any, container: str, *, keep_audio: bool, cut: bool) -> None:
        self.notes: list[Note] = []
        self.silent = 0
        self._input = open_container(path)
        self._output = output
        self._container = container
        self._cut = cut
        self._span = Span()
        self._length: Fraction | None = None
        self._tracks: dict[int, Track] = {}
        self._heard: set[int] = set()
        self._waiting: Any = None
        self._packets: Iterator[Any] | None = None
        try:
            self._take_audio(keep_audio)
            self._take_subtitles()
        except BaseException:
            self._input.close()
            raise

    def close(self) -> None:
        self._input.close()

    def begin(self, first: Fraction, length: Fraction | None) -> None:
        """The first picture's time is known, and `length`, if it is, of what follows.

        To be called before anything is muxed: chapters stand in the header.
        """
        self._length = length
        if self._cut:
            self._span = Span(shift=first, begin=first)
        for name, value in self._input.metadata.items():
            if name.lower() in MOVIE_TAGS:
                self._output.metadata[name] = value
        self._output.set_chapters(list(self._chapters()))
        self._packets = self._demux(first)

    def advance(self, until: Fraction | None) -> None:
        """Hand over everything that begins up to that time of the source; None: everything."""
        assert self._packets is not None
        while True:
            packet = self._waiting if self._waiting is not None else next(self._packets, None)
            self._waiting = None
            if packet is None:
                return
            ticks = packet.dts if packet.dts is not None else packet.pts
            if until is not None and ticks is not None and ticks * packet.time_base > until:
                self._waiting = packet
                return
            index = packet.stream.index
            self._mux(index, self._tracks[index].feed(packet, self._span))

    def finish(self, end: Fraction) -> None:
        """The last picture ends there. Hand over the rest, cut there if the pictures were cut."""
        if self._cut:
            self._span = Span(self._span.shift, self._span.begin, end)
        self.advance(end if self._cut else None)
        for index, track in self._tracks.items():
            self._mux(index, track.finish(self._span))
        self._tell_silent()

    def _mux(self, index: int, packets: Iterable[Any]) -> None:
        given = list(packets)
        if given:
            self._heard.add(index)
            self._output.mux(given)

    def _tell_silent(self) -> None:
        """Count the audio tracks that gave nothing: they end before the cut begins, or were empty all along."""
        for number, stream in enumerate(self._input.streams.audio, 1):
            if stream.index in self._tracks and stream.index not in self._heard:
                self.silent += 1
                self.notes.append(Note("AUDIO_SILENT", f"audio track {number} holds no sound beside these pictures"))

    def _take_audio(self, keep: bool) -> None:
        if not keep:
            return
        for number, stream in enumerate(self._input.streams.audio, 1):
            track = self._audio_track(number, stream)
            if track is not None:
                self._tracks[stream.index] = track

    def _audio_track(self, number: int, stream: Any) -> Track | None:
        if stream.codec_context is None:
            self.notes.append(
                Note("AUDIO_DROPPED", f"audio track {number} is in a codec that this worker does not know")
            )
            return None
        if can_copy(stream, self._container):
            try:
                return CopiedTrack(stream, self._output, self._container)
            except ValueError:
                log.info("the muxer refuses %s in %s", stream.codec_context.name, self._container)
        track = EncodedTrack(stream, self._output, self._container)
        text = f"audio track {number} was re-encoded as {track.codec.upper()}: {self._container} cannot hold"
        self.notes.append(Note("AUDIO_TRANSCODED", f"{text} {stream.codec_context.codec.canonical_name}"))
        return track

    def _take_subtitles(self) -> None:
        allowed = CONTAINERS[self._container].subtitles
        dropped = []
        for stream in self._input.streams.subtitles:
            name = stream.codec_context.codec.canonical_name if stream.codec_context else "an unknown codec"
            if name in allowed:
                self._tracks[stream.index] = SubtitleTrack(stream, self._output)
            else:
                dropped.append(name)
        if dropped:
            text = (
                f"{len(dropped)} subtitle track(s) in {', '.join(dropped)} left out: {self._container} cannot hold them"
            )
            self.notes.append(Note("SUBTITLES_DROPPED", text))

    def _demux(self, first: Fraction) -> Iterator[Any]:
        """The tracks' packets, in the file's order, from shortly before the cut. Damage ends them with a note."""
        if not self._tracks:
            return
        for stream in self._input.streams:
            if stream.index not in self._tracks:
                stream.discard = av.stream.Discard.all
        if self._cut and first > _LEAD:
            try:
                self._input.seek(floor((first - _LEAD) * 1_000_000))
            except av.error.FFmpegError:
                log.info("the source cannot be searched; its tracks are read from the start")
        chosen = [stream for stream in self._input.streams if stream.index in self._tracks]
        try:
            for packet in self._input.demux(chosen):
                if packet.size:
                    yield packet
        except av.error.FFmpegError as error:
            log.warning("reading the source's tracks ended early: %s", error.strerror)
            self.notes.append(
                Note("AUDIO_DAMAGED", "the source is damaged; its audio ends where it could not be read on")
            )

    def _chapters(self) -> Iterator[Any]:
        """The source's chapters, moved and clipped with the cut."""
        for chapter in self._input.chapters():
            if not self._cut:
                yield chapter
                continue
            base = chapter["time_base"] or _MILLISECOND
            start, end = (chapter[edge] * base - self._span.shift for edge in ("start", "end"))
            if self._length is not None:
                end = min(end, self._length)
            start = max(start, Fraction(0))
            if end > start:
                edges = {"start": round(start / _MILLISECOND), "end": round(end / _MILLISECOND)}
                yield {**chapter, **edges, "time_base": _MILLISECOND}
