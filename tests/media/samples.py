"""Small media files that tests make for themselves, one function each: `(path, **options) -> path`.

Every picture carries its index as eight black or white blocks along its top quarter, which `index_of` reads back
after any codec, so that a lost, doubled or turned frame shows.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.frames import Colour

LOSSLESS = {"qp": "0", "preset": "ultrafast"}
HDR10 = Colour(primaries=9, transfer=16, matrix=9, range=1)
HEADER_ATOMS = {"movflags": "faststart"}


def picture(index: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """(H, W, 3): a coloured gradient that moves with the index, under the index in eight blocks."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[..., 0] = 60 + (np.arange(width) * 2 + index * 3) % 120
    rgb[..., 1] = 60 + (np.arange(height)[:, None] * 3) % 120
    rgb[..., 2] = 60 + index * 5 % 120
    bits = (index >> (np.arange(width) * 8 // width)) & 1
    rgb[: max(1, height // 4)] = np.where(bits, 235, 16)[None, :, None]
    return rgb


def index_of(luma: NDArray[Any], white: int = 235) -> int:
    """The index that a picture carries; `luma` is (H, W) or the picture itself (H, W, 3 or 4)."""
    strip = luma[: max(1, luma.shape[0] // 4)].astype(float)
    strip = strip[..., 0] if strip.ndim == 3 else strip
    width = strip.shape[1]
    block = np.arange(width) * 8 // width
    return sum(int(strip[:, block == bit].mean() > white / 2) << bit for bit in range(8) if (block == bit).any())


def video(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    fps: Fraction | int = 25,
    codec: str = "libx264",
    pixel: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    format: str | None = None,
    time_base: Fraction | None = None,
    times: Sequence[int] | None = None,
    durations: Sequence[int] | None = None,
    start: int = 0,
    colour: Colour | None = None,
    sar: Fraction | None = None,
    turn: tuple[float, bool, bool] | None = None,
    languages: Sequence[str] = (),
    audio_codec: str = "aac",
    chapters: int = 0,
    metadata: dict[str, str] | None = None,
    pictures: Iterator[NDArray[Any]] | None = None,
) -> Path:
    """A video of `frames` pictures.

    times: presentation times in `time_base` units (default: one every 1/fps), each later by `start`.
    turn: a display matrix: degrees counter-clockwise, then mirrored left-right, top-bottom.
    languages: one tone of audio for each. pictures: rgb24 or rgba arrays instead of `picture(0...)`.
    """
    base = time_base or Fraction(1) / fps
    times = times or [round(index / (fps * base)) for index in range(frames)]
    images = pictures or (picture(index, *size) for index in range(frames))
    if options is None and codec == "libx264":
        options = {"preset": "ultrafast", "crf": "10"}
    with av.open(str(path), "w", format=format, container_options=container_options or {}) as out:
        stream: Any = out.add_stream(codec, rate=Fraction(fps), options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixel
        stream.codec_context.time_base = base
        stream.time_base = base
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        if colour:
            _tag(stream.codec_context, colour)
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        tracks = [_track(out, audio_codec, language) for language in languages]
        out.metadata.update(metadata or {})
        length = (times[-1] + (durations[-1] if durations else 1 / (fps * base))) * base
        if chapters:
            out.set_chapters([_chapter(number, length / chapters) for number in range(chapters)])
        for index, (image, pts) in enumerate(zip(images, times, strict=True)):
            frame = _frame(image, pixel, colour)
            frame.pts, frame.time_base = pts + start, base
            frame.duration = durations[index] if durations else round(1 / (fps * base))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for number, track in enumerate(tracks):
            _tone(out, track, float(length), 220 * (number + 1))
    return path


def _frame(image: NDArray[Any], pixel: str, colour: Colour | None) -> av.VideoFrame:
    source = {(1, 3): "rgb24", (1, 4): "rgba", (2, 3): "rgb48le", (2, 4): "rgba64le"}
    frame = av.VideoFrame.from_ndarray(image, format=source[image.itemsize, image.shape[2]])
    if pixel == frame.format.name:
        return frame
    matrix = {9: "BT2020", 1: "ITU709"}.get(colour.matrix if colour else 2, "ITU601")
    full = colour is not None and colour.range == 2
    frame = frame.reformat(
        format=pixel, dst_colorspace=matrix, dst_color_range="JPEG" if full else "MPEG", interpolation="AREA"
    )
    if colour:
        _tag(frame, colour)
    return frame


def _tag(target: Any, colour: Colour) -> None:
    target.color_primaries, target.color_trc = colour.primaries, colour.transfer
    target.colorspace, target.color_range = colour.matrix, colour.range


def _track(out: Any, codec: str, language: str) -> Any:
    track = out.add_stream(codec, rate=48_000 if codec == "libopus" else 44_100)
    track.codec_context.layout = "stereo"
    track.metadata["language"] = language
    return track


def _tone(out: Any, track: Any, seconds: float, pitch: float) -> None:
    """A sine of that pitch, as long as the pictures."""
    rate, size = track.codec_context.sample_rate, track.codec_context.frame_size or 1024
    kind = track.codec_context.format.name
    total = round(seconds * rate)
    for start in range(0, total, size):
        wave = 0.2 * np.sin(2 * np.pi * pitch * np.arange(start, min(start + size, total)) / rate)
        planes = np.stack([wave, wave]).astype(np.float32)
        if not kind.endswith("p"):
            planes = planes.T.reshape(1, -1).copy()
        if kind.startswith("s16"):
            planes = (planes * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(planes, format=kind, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        out.mux(track.encode(frame))
    out.mux(track.encode())


def _chapter(number: int, length: Fraction) -> Any:
    start, end = (round(length * n * 1000) for n in (number, number + 1))
    title = {"title": f"Chapter {number + 1}"}
    return {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": title}


def odd_size(path: Path, **options: Any) -> Path:
    """33x17, lossless."""
    return video(path, **{"size": (33, 17), "pixel": "yuv444p", "options": LOSSLESS, **options})


def variable_rate(path: Path, **options: Any) -> Path:
    """Uneven distances between frames, in milliseconds."""
    times = [0, 40, 50, 130, 170, 300, 333, 400, 480, 500, 900, 940]
    return video(path, **{"times": times, "time_base": Fraction(1, 1000), "frames": len(times), **options})


def start_offset(path: Path, seconds: int = 2, **options: Any) -> Path:
    """The first picture comes late."""
    return video(path, **{"time_base": Fraction(1, 1000), "start": seconds * 1000, **options})


def rotated(path: Path, degrees: float = -90, mirrored: bool = False, **options: Any) -> Path:
    """A phone's way: lying pictures with a display matrix; degrees counter-clockwise, as FFmpeg counts."""
    return video(path, **{"turn": (degrees, mirrored, False), **options})


def hdr10(path: Path, **options: Any) -> Path:
    """10-bit HEVC with BT.2020, PQ and limited range written on it. The ramp has 1,024 levels."""
    levels = np.linspace(0, 65535, 256).astype(np.uint16)
    ramp = np.broadcast_to(levels[None, :, None], (48, 256, 3))
    given = {
        "codec": "libx265",
        "pixel": "yuv420p10le",
        "size": (256, 48),
        "colour": HDR10,
        "frames": 6,
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:lossless=1"},
        **options,
    }
    return video(path, pictures=(ramp.copy() for _ in range(given["frames"])), **given)


def interlaced(path: Path, flagged: bool = True, **options: Any) -> Path:
    """A block that runs sideways, two fields a frame (top first), 576 lines; `flagged` says so in the stream."""
    width, height, frames = 128, 576, options.pop("frames", 12)

    def field(moment: int) -> NDArray[np.uint8]:
        image = np.full((height, width, 3), 60, np.uint8)
        left = moment * 4 % 80
        image[100:480, left : left + 40] = 200
        return image

    def woven(index: int) -> NDArray[np.uint8]:
        image = field(2 * index)
        image[1::2] = field(2 * index + 1)[1::2]
        return image

    given: dict[str, Any] = {"codec": "mpeg2video", "options": {"b": "20M", "g": "6"}}
    if flagged:
        given["options"] |= {"flags": "+ilme+ildct", "field_order": "tt", "top": "1"}
    else:
        given = {"codec": "ffv1"}
    pictures = (woven(index) for index in range(frames))
    return video(path, **{**given, "size": (width, height), "frames": frames, "pictures": pictures, **options})


def silent(path: Path, **options: Any) -> Path:
    """No audio."""
    return video(path, **options)


def three_tracks(path: Path, **options: Any) -> Path:
    """Three audio tracks in three languages."""
    return video(path, **{"languages": ("eng", "fra", "jpn"), "frames": 25, **options})


def with_chapters(path: Path, **options: Any) -> Path:
    """Three chapters, a title and one audio track."""
    given = {"chapters": 3, "frames": 30, "languages": ("eng",), "metadata": {"title": "A title"}, **options}
    return video(path, **given)


def truncated(path: Path, keep: float = 0.5, **options: Any) -> Path:
    """A whole file cut off after that share of its bytes. An mp4 has its index in front."""
    given = {"frames": 60, "options": {"preset": "ultrafast", "crf": "10", "g": "10"}, **options}
    if path.suffix in (".mp4", ".mov"):
        given.setdefault("container_options", HEADER_ATOMS)
    video(path, **given)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


def damaged(path: Path, at: float = 0.5, length: int = 4000, **options: Any) -> Path:
    """A file of whole size in which a stretch of bytes was overwritten."""
    video(path, **{"frames": 60, "options": {"preset": "ultrafast", "crf": "10", "g": "10"}, **options})
    whole = bytearray(path.read_bytes())
    middle = int(len(whole) * at)
    whole[middle : middle + length] = bytes((n * 37 + 11) % 256 for n in range(length))
    path.write_bytes(whole)
    return path


def audio_only(path: Path, seconds: float = 1.0, codec: str = "aac") -> Path:
    """A tone and no picture."""
    with av.open(str(path), "w") as out:
        _tone(out, _track(out, codec, "eng"), seconds, 440)
    return path


def zero_frames(path: Path) -> Path:
    """A video track in which nothing was ever written."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.start_encoding()
    return path


def fading(index: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """(H, W, 4): the picture, its left half seen through more with every frame, its right half clear."""
    width, height = size
    alpha = np.full((height, width, 1), 255 - index * 10 % 200, np.uint8)
    alpha[:, width // 2 :] = 0
    return np.concatenate([picture(index, width, height), alpha], -1)


def vp9_alpha(path: Path, frames: int = 6, codec: str = "libvpx-vp9", **options: Any) -> Path:
    """WebM whose alpha lies beside each picture (`vp8` too, by its encoder `libvpx`)."""
    pictures = (fading(index) for index in range(frames))
    given = {"codec": codec, "pixel": "yuva420p", "options": {"crf": "10", "b": "1M", "auto-alt-ref": "0"}, **options}
    return video(path, frames=frames, pictures=pictures, **given)


def prores_alpha(path: Path, frames: int = 4, **options: Any) -> Path:
    """ProRes 4444 with alpha, 10 bits."""
    pictures = (fading(index) for index in range(frames))
    given = {"codec": "prores_ks", "pixel": "yuva444p10le", "options": {"profile": "4", "alpha_bits": "16"}, **options}
    return video(path, frames=frames, pictures=pictures, **given)


def animated(
    path: Path, durations: Sequence[int] = (20, 70, 330, 0, 100), size: tuple[int, int] = (64, 48), **options: Any
) -> Path:
    """GIF, WebP or APNG by Pillow: a clear ground, delays in milliseconds, each frame replacing the last."""
    images = []
    for index in range(len(durations)):
        rgba = fading(index, size)
        rgba[..., 3] = np.where(rgba[..., 3] > 0, 255, 0)  # GIF knows no half-clear pixels
        images.append(Image.fromarray(rgba))
    given: dict[str, Any] = {"disposal": 2} if path.suffix != ".webp" else {"lossless": True}
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=list(durations), loop=0, **{**given, **options}
    )
    return path


def still(path: Path, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: Any) -> Path:
    """A picture by Pillow, whatever the suffix and mode."""
    Image.fromarray(picture(5, *size)).convert(mode).save(path, **options)
    return path
