"""Pictures encoded into mp4, mov, mkv or webm, with the source's tracks beside them."""

from collections.abc import Iterable
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

import av

from engine.errors import Internal
from engine.frames import Frame
from engine.media import hdr
from engine.media.encoders import CARRIES_HDR, encoder_options
from engine.media.formats import fill, to_ffmpeg
from engine.media.outputs import CONTAINERS, OutputSpec, default_codec, encoder_name
from engine.media.side_streams import SideStreams
from engine.media.sinks import Source, Ticks
from engine.notes import Note

_FINEST = 10**9
"""Finer units of time than this no encoder takes."""

_LARGEST_TIMESCALE = 2**31 - 1
_HAS_EDIT_LIST = ("mp4", "mov")
_TELLS_ASPECT = ("h264", "hevc")
"""Codecs that say the pixels' shape themselves. PyAV offers no way to have Matroska say it."""


class VideoFile:
    """One video file with one stream of pictures."""

    def __init__(self, path: Path, spec: OutputSpec, source: Source | None) -> None:
        self.notes: list[Note] = []
        self.audio_tracks = 0
        self._spec = spec
        self._source = source
        self._codec = spec.codec or default_codec(spec.container, alpha=spec.pixel.alpha)
        self._ticks = Ticks(_time_base(spec.time_base))
        self._durations: dict[int, int] = {}
        self._held: Any = None
        self._first: Any = None
        self._end: int | None = None
        self._last_end = Fraction(0)
        self._output = av.open(
            str(path), "w", format=CONTAINERS[spec.container].muxer, container_options=self._muxer_options()
        )
        self._stream = self._open_stream()
        self._side: SideStreams | None = None
        if source is not None and source.has_tracks:
            self._side = SideStreams(
                source.path, self._output, spec.container, keep_audio=spec.keep_audio, cut=source.cut
            )
            self.notes += self._side.notes
            self._side.notes = self.notes
            self.audio_tracks = len(self._output.streams.audio)

    def write(self, frame: Frame) -> None:
        if self._end is None:
            self._begin(frame)
        picture = self._picture(frame)
        self._last_end = frame.time + (frame.duration or 1 / self._spec.fps)
        self._mux(self._stream.encode(picture))
        if self._side is not None:
            self._side.advance(frame.time)

    def finish(self) -> None:
        if self._end is None:
            raise Internal("no frame reached the encoder; the pipeline must yield at least one")
        packets = self._stream.encode(None)
        if self._first is None and len(packets) <= 2:
            for packet in packets:  # x265 leaves the decoding times of so few pictures unset
                packet.dts = packet.pts
        self._mux(packets)
        self._close_last()
        if self._side is not None:
            self._side.finish(self._last_end)
            self._side.close()
            if self._spec.container in _HAS_EDIT_LIST:  # whose muxer leaves out tracks without a packet
                self.audio_tracks -= self._side.silent
        self._output.close()

    def abort(self) -> None:
        if self._side is not None:
            self._side.close()
        self._output.close()

    def _open_stream(self) -> Any:
        spec = self._spec
        encoder = encoder_name(self._codec)
        static = self._static_hdr()
        rate = spec.fps.limit_denominator(65_535)
        options = encoder_options(encoder, spec, static)
        stream: Any = self._output.add_stream(encoder, rate=rate, options=options, width=spec.width, height=spec.height)
        context = stream.codec_context
        context.pix_fmt = to_ffmpeg(spec.pixel)
        context.time_base = stream.time_base = self._ticks.base
        context.sample_aspect_ratio = spec.sample_aspect_ratio
        context.color_primaries, context.color_trc = spec.colour.primaries, spec.colour.transfer
        context.colorspace, context.color_range = spec.colour.matrix, spec.colour.range
        context.thread_type = "AUTO"  # PyAV's default cuts pictures in slices, which costs x264 speed and quality
        told = spec.container in _HAS_EDIT_LIST or self._codec in _TELLS_ASPECT
        if spec.sample_aspect_ratio != 1 and not told:
            shape = f"the pixels' shape {spec.sample_aspect_ratio} was lost"
            text = f"{shape}: {self._codec} in {spec.container} cannot tell it, mp4 and mov can"
            self.notes.append(Note("ASPECT_RATIO_LOST", text))
        if self._codec == "hevc" and spec.container in _HAS_EDIT_LIST:
            context.codec_tag = "hvc1"  # the tag that Apple's players insist on
        return stream

    def _static_hdr(self) -> hdr.StaticHdr:
        if self._source is None or not self._spec.colour.hdr or self._source.info.kind != "video":
            return hdr.StaticHdr()
        static = hdr.read(self._source.path)
        if static != hdr.StaticHdr() and self._codec not in CARRIES_HDR:
            text = f"{self._codec} cannot carry the source's HDR10 mastering metadata; h264, hevc and av1 can"
            self.notes.append(Note("HDR_METADATA_DROPPED", text))
        return static

    def _muxer_options(self) -> dict[str, str]:
        if self._spec.container not in _HAS_EDIT_LIST:
            return {}
        # The edit list's empty stretch before a late start is counted in the movie's time scale: 1/1000 unless told.
        rates = [track.rate for track in self._source.info.audio if track.rate > 0] if self._source else []
        fine, units = lcm(self._ticks.base.denominator, *rates), self._ticks.base.denominator
        scale = fine if fine <= _LARGEST_TIMESCALE else units
        return {"movflags": "+faststart+write_colr", "movie_timescale": str(scale), "write_tmcd": "0"}

    def _begin(self, frame: Frame) -> None:
        source = self._source
        if source is not None and source.cut:
            self._ticks.shift = frame.time
        if self._side is not None and source is not None:
            length = source.info.expected_frames(source.clip) / source.info.fps if source.info.fps else None
            self._side.begin(frame.time, length)

    def _picture(self, frame: Frame) -> Any:
        """The frame as FFmpeg wants it: its planes copied once, its tags (ProRes reads them here) and times set."""
        spec, picture = self._spec, fill(frame.planes, self._spec.pixel, self._spec.width, self._spec.height)
        target: Any = picture
        target.color_primaries, target.color_trc = spec.colour.primaries, spec.colour.transfer
        target.colorspace, target.color_range = spec.colour.matrix, spec.colour.range
        target.pts, target.time_base = self._ticks.stamp(frame.time), self._ticks.base
        target.duration = self._ticks.length(frame, 1 / spec.fps)
        self._durations[target.pts] = target.duration
        self._end = target.pts + target.duration
        return target

    def _mux(self, packets: Iterable[Any]) -> None:
        """Hand packets over, each with its frame's duration; the last one waits until it is known to be the last."""
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            if self._first is None:
                self._first = (packet.pts, packet.dts)
            if self._held is not None:
                self._output.mux(self._held)
            self._held = packet

    def _close_last(self) -> None:
        """Mux the last packet.

        MP4 counts a track's length in decoding times, which end early when pictures are reordered: it makes up for it.
        """
        packet = self._held
        if packet is None or self._end is None:
            raise Internal("the encoder gave no packet for the frames that it took")
        if self._spec.container in _HAS_EDIT_LIST and packet.dts is not None:
            pts, dts = self._first
            rest, missing = self._end - packet.pts, (self._end - pts) - (packet.dts - dts)
            if 0 < missing <= rest:
                packet.duration = missing
            else:  # uneven frames: decoded as late as may be, the rest is enough
                packet.dts, packet.duration = packet.pts, rest
        self._output.mux(packet)


def _time_base(wanted: Fraction) -> Fraction:
    """The unit of the wanted time base's multiples, or 1/90000 where it is finer than encoders count."""
    return Fraction(1, wanted.denominator if wanted.denominator <= _FINEST else 90_000)
