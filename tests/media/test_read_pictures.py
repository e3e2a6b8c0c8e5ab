"""Stills and animations: the samples themselves, upright, with their alpha, depth and delays."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from engine.frames import RGB24, RGBA32, PixelFormat
from engine.media.info import Clip
from engine.media.probe import probe
from tests.media import samples
from tests.media.reading import CEILINGS, read


@pytest.mark.parametrize("size", [(64, 48), (33, 17), (1, 1)])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_a_lossless_still_comes_to_the_sample(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    info, frames, reader = read(samples.still(tmp_path / f"a.{suffix}", size, **options))
    assert (info.kind, info.container, info.frames, info.animated) == ("image", suffix, 1, False)
    assert (info.raster.width, info.raster.height, info.raster.pixel) == (*size, RGB24)
    assert frames[0].time == 0 and reader.count == 1
    assert np.array_equal(frames[0].planes[0], samples.picture(5, *size))
    assert frames[0].planes[0].flags.writeable  # torch refuses to share what it may not write


def test_a_jpeg_is_told_by_content_not_suffix(tmp_path: Path) -> None:
    path = samples.still(tmp_path / "a.jpg", quality=95).rename(tmp_path / "a.png")
    info, frames, _ = read(path)
    assert info.container == "jpeg"
    assert samples.index_of(frames[0].planes[0]) == 5


@pytest.mark.parametrize(
    ("mode", "suffix", "pixel"),
    [
        ("L", "png", RGB24),
        ("1", "png", RGB24),
        ("LA", "png", RGBA32),
        ("P", "png", RGB24),
        ("CMYK", "jpg", RGB24),
        ("L", "jpg", RGB24),
        ("RGBA", "tiff", RGBA32),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, suffix: str, pixel: PixelFormat) -> None:
    info, frames, _ = read(samples.still(tmp_path / f"a.{suffix}", mode=mode))
    assert info.raster.pixel == pixel
    assert frames[0].planes[0].shape == (48, 64, 4 if pixel.alpha else 3)
    assert samples.index_of(frames[0].planes[0]) == 5


def test_half_clear_pixels_keep_their_alpha(tmp_path: Path) -> None:
    for suffix in ("png", "webp", "tiff"):
        Image.fromarray(samples.fading(3)).save(
            tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {})
        )
        info, frames, _ = read(tmp_path / f"a.{suffix}")
        assert info.raster.pixel == RGBA32
        assert np.array_equal(frames[0].planes[0][:, :32], samples.fading(3)[:, :32])


def test_a_palette_s_clear_colour_becomes_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    info, frames, _ = read(tmp_path / "a.png")
    assert info.raster.pixel == RGBA32
    assert frames[0].planes[0][0, :2].tolist() == [[10, 20, 30, 0], [200, 100, 50, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(samples.picture(5))
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (upright if stored is None else upright.transpose(stored)).save(tmp_path / "a.png", exif=exif)
    info, frames, _ = read(tmp_path / "a.png")
    assert (info.raster.width, info.raster.height) == (64, 48)
    assert np.array_equal(frames[0].planes[0], np.array(upright))


def deep_picture(channels: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    ramp = np.arange(24 * 32 * channels, dtype=np.uint32) * 65535 // (24 * 32 * channels)
    return ramp.reshape(24, 32, channels).astype(np.uint16)


@pytest.mark.parametrize(
    ("codec", "name", "format", "channels"),
    [
        ("png", "a.png", "rgb48be", 3),
        ("png", "a.png", "rgba64be", 4),
        ("tiff", "a.tiff", "rgb48le", 3),
        ("tiff", "a.tiff", "rgba64le", 4),
    ],
)
def test_16_bits_stay_16_bits(tmp_path: Path, codec: str, name: str, format: str, channels: int) -> None:
    deep = deep_picture(channels)
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 24, format, Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(deep, format="rgba64le" if channels == 4 else "rgb48le").reformat(format=format)
    (tmp_path / name).write_bytes(b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)]))
    info, frames, _ = read(tmp_path / name)
    assert info.raster.pixel == PixelFormat("rgb", 16, alpha=channels == 4)
    assert np.array_equal(frames[0].planes[0], deep)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_stays_16_bit(tmp_path: Path, suffix: str) -> None:
    grey = deep_picture(1)[..., 0]
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    info, frames, _ = read(tmp_path / f"a.{suffix}")
    assert info.raster.pixel == PixelFormat("rgb", 16)
    assert np.array_equal(frames[0].planes[0], np.repeat(grey[..., None], 3, -1))


def test_an_embedded_profile_is_turned_into_srgb(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    samples.still(tmp_path / "srgb.png", icc_profile=lab.tobytes())
    _, frames, reader = read(tmp_path / "srgb.png")
    assert abs(frames[0].planes[0].astype(int) - samples.picture(5)).max() <= 1
    assert reader.warnings == []


def test_a_broken_profile_is_told_and_passed_over(tmp_path: Path) -> None:
    samples.still(tmp_path / "a.png", icc_profile=b"no profile at all")
    _, frames, reader = read(tmp_path / "a.png")
    assert np.array_equal(frames[0].planes[0], samples.picture(5))
    assert [note.code for note in reader.warnings] == ["COLOUR_PROFILE_IGNORED"]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_keeps_every_delay_and_its_alpha(tmp_path: Path, suffix: str) -> None:
    path = samples.animated(tmp_path / f"a.{suffix}", durations=(20, 70, 330, 0, 110))
    info, frames, _ = read(path)
    delays = [Fraction(ms, 1000) for ms in (20, 70, 330, 100, 110)]  # zero means a tenth, as in browsers
    assert [frame.duration for frame in frames] == delays
    assert [frame.time for frame in frames] == [sum(delays[:n], Fraction(0)) for n in range(5)]
    assert (info.kind, info.frames, info.animated, info.variable_rate) == ("video", 5, True, True)
    assert (info.duration, info.raster.pixel) == (sum(delays), RGBA32)
    for index, frame in enumerate(frames):
        picture = frame.planes[0]
        assert picture[:, :32, 3].min() == 255 and picture[:, 32:, 3].max() == 0
        assert samples.index_of(np.where(picture[..., 3:] > 0, picture, 0)) == index


def test_a_clip_of_an_animation(tmp_path: Path) -> None:
    path = samples.animated(tmp_path / "a.gif", durations=(100, 100, 100, 100, 100))
    _, frames, _ = read(path, Clip(start=0.1, end=0.4, skip_frames=1, max_frames=5))
    assert [frame.time for frame in frames] == [Fraction(2, 10), Fraction(3, 10)]


def test_a_gif_without_clear_pixels_is_rgb(tmp_path: Path) -> None:
    images = [Image.fromarray(samples.picture(index)) for index in range(3)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=40)
    info, frames, _ = read(tmp_path / "a.gif")
    assert info.raster.pixel == RGB24 and info.fps == 25 and not info.variable_rate
    assert [samples.index_of(frame.planes[0]) for frame in frames] == [0, 1, 2]


def test_a_gif_of_one_frame_is_a_picture(tmp_path: Path) -> None:
    assert probe(samples.still(tmp_path / "a.gif"), CEILINGS).kind == "image"
