"""The source's audio on its way into the output: packets as they are where the container knows them, else re-encoded.

A track takes packets of its source stream and gives packets for the muxer. When and which packets come is
`side_streams`' business.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np

from engine.media.outputs import CONTAINERS

log = logging.getLogger(__name__)

ENCODERS = {"aac": "aac", "opus": "libopus"}
OPUS_RATE = 48_000
AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
BITS_PER_CHANNEL = 96_000
MOST_CHANNELS = 8

JITTER = Fraction(1, 25)
"""Times that stray less than this from the count of samples are the container's rounding, not a gap."""


_QUICKTIME_LANGUAGES = {
    "deu": "ger",
    "ell": "gre",
    "fas": "per",
    "isl": "ice",
    "nld": "dut",
    "zho": "chi",
}
"""Languages with two codes in ISO 639-2 whose bibliographic one QuickTime knows."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the source's time line is written, and by how much everything is moved to earlier times.

    `begin` and `end` are None where the source is kept whole; `end` also until the last picture is known.
    """

    shift: Fraction = Fraction(0)
    begin: Fraction | None = None
    end: Fraction | None = None


class Track(Protocol):
    """One source stream on its way to one output stream."""

    source: Any

    def feed(self, packet: Any, span: Span) -> Iterator[Any]:
        """Packets for the muxer that this packet of the source makes ready."""

    def finish(self, span: Span) -> Iterator[Any]:
        """What was held back."""


def carry_tags(source: Any, target: Any) -> None:
    """Copy language, title, handler and disposition from stream to stream."""
    tags = {name: value for name, value in source.metadata.items() if name in ("language", "title", "handler_name")}
    if target.container.format.name == "mov" and "language" in tags:
        tags["language"] = _QUICKTIME_LANGUAGES.get(tags["language"], tags["language"])
    target.metadata.update(tags)
    target.disposition = source.disposition


def can_copy(stream: Any, container: str) -> bool:
    """True if the stream's packets may lie in that container as they are."""
    return stream.codec_context is not None and stream.codec_context.codec.canonical_name in CONTAINERS[container].audio


class CopiedTrack:
    """Packets handed on unchanged, only moved in time."""

    def __init__(self, source: Any, output: Any, container: str) -> None:
        self.source = source
        self._target = output.add_stream_from_template(source)
        carry_tags(source, self._target)
        self._hides_start = container in ("mp4", "mov")
        self._counts_padding = "matroska" in source.container.format.name or self._name == "opus"
        self._first = True

    @property
    def _name(self) -> str:
        return str(self.source.codec_context.codec.canonical_name)

    def feed(self, packet: Any, span: Span) -> Iterator[Any]:
        ticks = packet.pts if packet.pts is not None else packet.dts
        if ticks is None or not self._wanted(ticks * packet.time_base, (packet.duration or 0) * packet.time_base, span):
            return
        offset = round(span.shift / packet.time_base)
        packet.pts = ticks - offset
        packet.dts = packet.pts if packet.dts is None else packet.dts - offset
        packet.stream = self._target
        self._first = False
        yield packet

    def finish(self, span: Span) -> Iterator[Any]:
        yield from ()

    def _wanted(self, start: Fraction, duration: Fraction, span: Span) -> bool:
        if span.end is not None and start >= span.end:
            return False
        if self._hides_start:
            # One packet before the cut is kept for the decoder to warm up on; the edit list hides it.
            return span.begin is None or start + 2 * duration > span.begin
        if span.begin is not None:
            return start >= span.begin
        # Matroska has no times below zero and would move every track instead. It counts the padding that it knows of
        # by itself; of the others' (MP4 hides AAC's in an edit list) the packets of silence are left out.
        return start >= 0 or self._counts_padding


class EncodedTrack:
    """Decoded, cut to the sample, and encoded as what the container wants."""

    def __init__(self, source: Any, output: Any, container: str) -> None:
        self.source = source
        self.codec = CONTAINERS[container].transcode or "aac"
        context = source.codec_context
        channels = min(context.layout.nb_channels, MOST_CHANNELS) or 2
        rate = OPUS_RATE if self.codec == "opus" else min(AAC_RATES, key=lambda known: abs(known - context.sample_rate))
        self._target = output.add_stream(ENCODERS[self.codec], rate=rate)
        encoder = self._target.codec_context
        encoder.layout = _default_layout(channels)
        encoder.bit_rate = BITS_PER_CHANNEL * channels
        encoder.time_base = Fraction(1, rate)
        carry_tags(source, self._target)
        self._next: int | None = None  # of the source's samples, counted from the shifted zero
        self._rate: int = context.sample_rate

    def feed(self, packet: Any, span: Span) -> Iterator[Any]:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            log.warning("an audio packet of stream %d could not be decoded", self.source.index)
            return
        for frame in frames:
            yield from self._encode(frame, span)

    def finish(self, span: Span) -> Iterator[Any]:
        for frame in self.source.codec_context.decode(None):
            yield from self._encode(frame, span)
        yield from self._target.encode(None)

    def _encode(self, frame: Any, span: Span) -> Iterator[Any]:
        start = self._start(frame, span)
        first = 0 if span.begin is None else max(0, -start)
        last = frame.samples if span.end is None else min(frame.samples, self._sample(span.end - span.shift) - start)
        if self._next is not None:
            first = max(first, self._next - start)
        if first >= last:
            return
        begin = start + first
        if self._next is not None and begin > self._next:
            yield from self._silence(frame, begin - self._next)
        self._next = start + last
        yield from self._target.encode(self._cut(frame, first, last, begin))

    def _start(self, frame: Any, span: Span) -> int:
        """The frame's first sample, counted from the output's zero; the container's rounding is smoothed away."""
        if frame.pts is None:
            return self._next or 0
        start = self._sample(frame.pts * frame.time_base - span.shift)
        near = self._next is not None and abs(start - self._next) < JITTER * self._rate
        return self._next if near and self._next is not None else start

    def _sample(self, seconds: Fraction) -> int:
        return round(seconds * self._rate)

    def _cut(self, frame: Any, first: int, last: int, position: int) -> Any:
        """Samples `first` to `last` as a frame that begins at `position`."""
        if (first, last) != (0, frame.samples):
            planes = frame.to_ndarray()
            step = 1 if frame.format.is_planar else frame.layout.nb_channels
            frame = _audio_frame(np.ascontiguousarray(planes[:, first * step : last * step]), frame)
        frame.pts, frame.time_base = position, Fraction(1, self._rate)
        return frame

    def _silence(self, like: Any, samples: int) -> Iterator[Any]:
        """Fill a hole in the source, a second at a time."""
        planes = like.to_ndarray()
        step = 1 if like.format.is_planar else like.layout.nb_channels
        quiet = 128 if like.format.name.startswith("u8") else 0
        while samples > 0:
            assert self._next is not None
            count = min(samples, self._rate)
            frame = _audio_frame(np.full((planes.shape[0], count * step), quiet, planes.dtype), like)
            frame.pts, frame.time_base = self._next, Fraction(1, self._rate)
            yield from self._target.encode(frame)
            self._next += count
            samples -= count


def _audio_frame(planes: Any, like: Any) -> Any:
    frame = av.AudioFrame.from_ndarray(planes, format=like.format.name, layout=like.layout.name)
    frame.sample_rate = like.sample_rate
    return frame


def _default_layout(channels: int) -> str:
    """FFmpeg's usual arrangement of that many loudspeakers."""
    return {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}[channels]
