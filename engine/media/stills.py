"""Pictures and animations that Pillow reads: PNG, JPEG, WebP, BMP, TIFF, GIF, as interleaved RGB frames.

A picture comes upright (EXIF), with straight alpha where it has any, and in sRGB: an embedded ICC profile is applied
and dropped, because video has no place for it. 16-bit pictures stay 16-bit, read by FFmpeg where Pillow would halve
them. Animations keep every delay; a delay of zero is the tenth of a second that browsers make of it.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from engine.errors import SourceCorrupt, SourceTooLarge
from engine.frames import Colour, Frame, PixelFormat, Plane, Raster
from engine.media.formats import FULL_RANGE, to_ffmpeg, view
from engine.media.info import Ceilings, Clip, MediaInfo
from engine.media.limits import check_pixels
from engine.media.upright import EXIF_ORIENTATIONS, UPRIGHT, Orientation
from engine.notes import Note

SRGB = Colour(primaries=1, transfer=13, matrix=0, range=FULL_RANGE)
STILL_RATE = Fraction(25)
ZERO_DELAY = Fraction(1, 10)

_PLUGINS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_EXIF_ORIENTATION = 0x0112
_TIFF_BITS = 258
_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
"""All that Pillow's readers raise when a file is not as its header says."""

_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # "I" has 32 bits, of which files use 16
_SEE_THROUGH = ("RGBA", "LA", "PA", "La", "RGBa")

# Sizes are checked against the job's own ceilings as soon as the header is read, before any sample is decoded.
Image.MAX_IMAGE_PIXELS = None


def probe_picture(path: Path, name: str, size: int, whole: bool, ceilings: Ceilings) -> MediaInfo:
    """The facts of a picture from its header, of an animation from all its frames."""
    with _opened(path) as image:
        width, height = image.size
        check_pixels(width, height, ceilings)
        if getattr(image, "is_animated", False) and name in ("gif", "webp", "png"):
            return _probe_animation(image, name, size, whole, ceilings)
        orientation = _orientation(image)
        bits = 16 if _is_deep(image) or image.mode in _GREY_16 else 8
        pixel = PixelFormat("rgb", bits, alpha=_has_alpha(image))
        pages = getattr(image, "n_frames", 1)
    notes = []
    if name == "tiff" and pages > 1:
        notes.append(Note("PAGES_IGNORED", f"the source has {pages} pages; the first was taken"))
    return MediaInfo(
        kind="image",
        container=name,
        codec=name,
        raster=Raster(*orientation.size(width, height), pixel, SRGB),
        rotation=orientation.clockwise,
        sample_aspect_ratio=Fraction(1),
        fps=STILL_RATE,
        frames=1,
        duration=1 / STILL_RATE,
        start=Fraction(0),
        time_base=1 / STILL_RATE,
        variable_rate=False,
        interlaced=False,
        audio=(),
        chapters=0,
        bytes=size,
        animated=False,
        complete=True,
        notes=tuple(notes),
    )


def _probe_animation(image: Image.Image, name: str, size: int, whole: bool, ceilings: Ceilings) -> MediaInfo:
    delays: list[Fraction] = []
    total, alpha = Fraction(0), False
    try:
        for picture, delay in _steps(image):
            delays.append(delay)
            total += delay
            alpha = alpha or _is_see_through(picture)
            if len(delays) > ceilings.frames:
                raise SourceTooLarge(f"the source has more than {ceilings.frames} frames, the most accepted here")
            if total > ceilings.seconds:
                text = f"the source lasts more than {ceilings.seconds:g} s, the most accepted here"
                raise SourceTooLarge(text)
    except _DAMAGE:
        whole = False
    if not delays:
        raise SourceCorrupt(f"the source is a {name} of which no frame can be decoded")
    return MediaInfo(
        kind="video",
        container=name,
        codec="apng" if name == "png" else name,
        raster=Raster(*image.size, PixelFormat("rgb", alpha=alpha), SRGB),
        rotation=0,
        sample_aspect_ratio=Fraction(1),
        fps=(len(delays) / total).limit_denominator(1001),
        frames=len(delays),
        duration=total,
        start=Fraction(0),
        time_base=Fraction(1, 100 if name == "gif" else 1000),
        variable_rate=len(set(delays)) > 1,
        interlaced=False,
        audio=(),
        chapters=0,
        bytes=size,
        animated=True,
        complete=whole,
    )


def frames_of(path: Path, info: MediaInfo, clip: Clip, notes: list[Note]) -> Iterator[Frame]:
    """The picture as one frame at time zero, or the animation's frames within the clip. Raises SourceCorrupt."""
    if info.kind == "image":
        yield Frame((_picture(path, info, notes),), Fraction(0), info.duration)
        return
    yield from _animation(path, info, clip)


def _animation(path: Path, info: MediaInfo, clip: Clip) -> Iterator[Frame]:
    mode = "RGBA" if info.raster.pixel.alpha else "RGB"
    time, index = Fraction(0), 0
    with _opened(path) as image:
        try:
            for picture, delay in _steps(image):
                if (clip.stop is not None and time >= clip.stop) or index == clip.frame_stop:
                    return
                if time >= clip.first:
                    index += 1
                    if index > clip.skip_frames:
                        yield Frame((np.array(picture.convert(mode)),), time, delay)
                time += delay
        except _DAMAGE as problem:
            raise _broken(time, info) from problem
    if not info.complete:
        raise _broken(time, info)


def _broken(time: Fraction, info: MediaInfo) -> SourceCorrupt:
    text = f"the source breaks off at frame {round(time * info.fps)} ({float(time):.3f} s)"
    return SourceCorrupt(text, hint="send the whole file, or set allow_partial to keep what comes before")


def _steps(image: Image.Image) -> Iterator[tuple[Image.Image, Fraction]]:
    """Each whole picture of an animation (disposal done) and how long it is shown."""
    # An APNG may open with a picture for readers that cannot animate; it is no part of the animation.
    first = 1 if image.info.get("default_image") else 0
    for index in range(first, getattr(image, "n_frames", 1)):
        image.seek(index)
        image.load()
        milliseconds = Fraction(image.info.get("duration") or 0).limit_denominator(65_535)
        yield image, (milliseconds / 1000).limit_denominator(65_535) or ZERO_DELAY


def _is_see_through(image: Image.Image) -> bool:
    if not _has_alpha(image):
        return False
    low: Any = image.convert("RGBA").getchannel("A").getextrema()[0]
    return bool(low < 255)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture with its header read. Raises SourceCorrupt for whatever goes wrong with it meanwhile."""
    try:
        with Image.open(path, formats=_PLUGINS) as image:
            yield image
    except UnidentifiedImageError as problem:
        raise SourceCorrupt("the source looks like a picture but its header cannot be read") from problem
    except _DAMAGE as problem:
        raise SourceCorrupt("the source is a picture that breaks off or is damaged") from problem


def _orientation(image: Image.Image) -> Orientation:
    """From the header alone: asked for EXIF that is not there, Pillow would decode a whole PNG to look behind it."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return UPRIGHT
    try:
        return EXIF_ORIENTATIONS.get(image.getexif().get(_EXIF_ORIENTATION, 1), UPRIGHT)
    except _DAMAGE:  # a broken EXIF block does not spoil the picture
        return UPRIGHT


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _SEE_THROUGH or "transparency" in image.info


def _is_deep(image: Image.Image) -> bool:
    """More than 8 bits a sample in a picture that Pillow hands out as 8."""
    if image.format == "PNG":
        tile: list[Any] = getattr(image, "tile", None) or []
        return bool(tile) and "16" in str(tile[0][3])
    bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS, (8,))
    return image.format == "TIFF" and image.mode in ("RGB", "RGBA") and max(bits) == 16


def _picture(path: Path, info: MediaInfo, notes: list[Note]) -> Plane:
    """(H, W, 3 or 4) of a still, upright and in sRGB."""
    with _opened(path) as image:
        turn = _orientation(image).turn
        if info.raster.pixel.bits == 8:
            return turn(np.array(_in_srgb(image, info.raster.pixel.alpha, notes)))
        if image.info.get("icc_profile"):
            notes.append(Note("COLOUR_PROFILE_IGNORED", "the source's colour profile was taken for sRGB"))
        return turn(_sixteen_bits(path, image, info.raster.pixel))


def _in_srgb(image: Image.Image, alpha: bool, notes: list[Note]) -> Image.Image:
    mode = "RGBA" if alpha else "RGB"
    profile = image.info.get("icc_profile")
    image.load()
    if not profile:
        return image.convert(mode)
    if image.mode in ("P", "PA", "La", "RGBa", "1"):
        image = image.convert(mode)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        base = image.convert(image.mode.rstrip("A")) if image.mode in ("RGBA", "LA") else image
        converted = ImageCms.profileToProfile(base, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        notes.append(Note("COLOUR_PROFILE_IGNORED", "the source's colour profile cannot be used; sRGB was assumed"))
        return image.convert(mode)
    if converted is None:
        raise ValueError("the colour profile gave no picture")
    if alpha:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted


def _sixteen_bits(path: Path, image: Image.Image, pixel: PixelFormat) -> Plane:
    """uint16 samples. Pillow keeps 16 bits of grey alone; colour goes through FFmpeg's decoder of the same format."""
    if image.mode in _GREY_16 and not pixel.alpha:
        grey: NDArray[np.uint16] = np.array(image).clip(0, 65_535).astype(np.uint16)
        return np.repeat(grey[:, :, None], 3, axis=2)
    context: Any = av.CodecContext.create("png" if image.format == "PNG" else "tiff", "r")
    packet: Any = av.Packet(path.read_bytes())
    try:
        picture = [*context.decode(packet), *context.decode(None)][0]
    except av.FFmpegError as problem:
        raise ValueError("FFmpeg cannot decode it") from problem
    name = to_ffmpeg(pixel)
    if picture.format.name != name:
        picture = picture.reformat(format=name, src_color_range=FULL_RANGE, dst_color_range=FULL_RANGE)
    return view(picture)[0]
