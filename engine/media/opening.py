"""Opening a video container so that it can reach nothing but itself, and choosing what to decode in it."""

from pathlib import Path
from typing import Any

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from engine.errors import SourceUnsupported
from engine.media.limits import MAX_SIDE

DEMUXERS = ",".join(
    ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi,flv,asf,mpegts,mpeg,mpegvideo,ogg,mxf,yuv4mpegpipe,ivf,dv")
)
"""Formats that hold their pictures themselves. Playlists, concatenations and numbered files are not among them."""

ALPHA_DECODERS = {"vp9": "libvpx-vp9", "vp8": "libvpx"}
"""FFmpeg's own VP8 and VP9 decoders pass over the alpha that WebM keeps beside each picture."""

_NOT_FOOTAGE = Disposition.attached_pic | Disposition.timed_thumbnails


def open_container(path: Path, max_pixels: int = MAX_SIDE**2) -> InputContainer:
    """Open a source for reading. No URL, other file or playlist is followed, whatever the content says.

    Frames above `max_pixels` are not decoded, not even to learn about the stream. Raises av.FFmpegError.
    """
    return av.open(
        f"file:{path.absolute()}",
        mode="r",
        options={"max_pixels": str(max_pixels)},
        container_options={"protocol_whitelist": "file", "format_whitelist": DEMUXERS},
        metadata_errors="replace",
    )


def footage(container: InputContainer) -> list[VideoStream]:
    """The streams of moving pictures, best first. Cover art is none."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_FOOTAGE]
    return sorted(streams, key=lambda stream: (-_is_default(stream), -_pixels(stream), stream.index))


def _is_default(stream: VideoStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _pixels(stream: VideoStream) -> int:
    context: Any = stream.codec_context
    return context.width * context.height if context is not None else 0


def codec_name(stream: Any) -> str:
    """The codec's own name, not its decoder's: av1 rather than libdav1d."""
    codec = stream.codec_context.codec
    return str(getattr(codec, "canonical_name", codec.name))


def decoder(stream: VideoStream, max_pixels: int) -> Any:
    """A decoder ready for the stream's packets, threaded over frames. Raises SourceUnsupported."""
    context: Any = stream.codec_context
    if context is None:
        raise SourceUnsupported("the source's video codec cannot be decoded here; H.264, HEVC, VP9 or AV1 can")
    if stream.metadata.get("alpha_mode") == "1" and codec_name(stream) in ALPHA_DECODERS:
        beside = CodecContext.create(ALPHA_DECODERS[codec_name(stream)], "r")
        if context.extradata:
            beside.extradata = context.extradata
        context = beside
    context.thread_type = "AUTO"
    context.options = {"max_pixels": str(max_pixels)}
    return context
