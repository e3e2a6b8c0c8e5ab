"""Frames become RGB tensors and frames again: checked against the standards' formulas, written out in float64."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.frames import RGB24, RGBA32, YUV420P, YUV420P10, Colour, Frame, PixelFormat, Raster
from engine.pipelines.frames import from_rgb, luma_weights, resize, to_rgb

CPU = torch.device("cpu")
Array = NDArray[np.float64]


def frame_of(planes: Sequence[NDArray[np.generic]], pixel: PixelFormat) -> Frame:
    return Frame(tuple(np.asarray(plane).astype(pixel.dtype) for plane in planes), Fraction(1, 3), Fraction(1, 25))


def read(frame: Frame, raster: Raster) -> torch.Tensor:
    return to_rgb([frame], raster, CPU, torch.float32)[0]


def noise(pixel: PixelFormat, width: int, height: int, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    return frame_of([rng.integers(0, 2**pixel.bits, shape) for shape in pixel.plane_shapes(width, height)], pixel)


def picture(height: int, width: int, seed: int = 0) -> Array:
    """Smooth colours, (H, W, 3) in [0.1, 0.9]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(rng.uniform(1, 6) * x + rng.uniform(1, 6) * y + rng.uniform(0, 6)) for _ in range(3)]
    return 0.5 + 0.4 * np.stack(waves, axis=-1)


def encode(rgb: Array, kr: float, kb: float, bits: int, full: bool) -> list[Array]:
    """H.273, equations 8.2 and 8.3: unrounded Y, Cb and Cr codes of (H, W, 3)."""
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    if full:
        top, middle = 2**bits - 1, 2 ** (bits - 1)
        return [y * top, cb * top + middle, cr * top + middle]
    unit = 2 ** (bits - 8)
    return [unit * (219 * y + 16), unit * (224 * cb + 128), unit * (224 * cr + 128)]


MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(MATRICES))
def test_yuv_is_read_and_written_by_its_matrix_range_and_depth(matrix: int, full: bool, bits: int) -> None:
    pixel = PixelFormat("yuv", bits)
    raster = Raster(40, 24, pixel, Colour(matrix=matrix, range=2 if full else 1))
    rgb = picture(24, 40)
    codes = encode(rgb, *MATRICES[matrix], bits, full)
    step = 1 / (2**bits * 0.85)  # the largest share of the range that a rounded code can be off by, in luma
    got = read(frame_of([np.rint(plane) for plane in codes], pixel), raster).permute(1, 2, 0).numpy()
    assert np.abs(got - rgb).max() < 2 * step
    x = torch.from_numpy(rgb.transpose(2, 0, 1)[None]).float()
    written = from_rgb(x, [frame_of([], pixel)], raster)[0]
    for plane, wanted in zip(written.planes, codes, strict=True):
        assert plane.dtype == pixel.dtype
        assert np.abs(plane - wanted).max() < 1.001


@pytest.mark.parametrize("full", [False, True])
def test_black_and_white_are_where_the_range_says(full: bool) -> None:
    raster = Raster(2, 1, PixelFormat("yuv", 10), Colour(matrix=1, range=2 if full else 1))
    x = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    y, u, v = from_rgb(x, [frame_of([], raster.pixel)], raster)[0].planes
    assert y.tolist() == [[0, 1023] if full else [64, 940]]
    assert u.tolist() == v.tolist() == [[512, 512]]


@pytest.mark.parametrize(
    ("width", "height", "matrix"), [(720, 576, 6), (1280, 544, 1), (720, 1280, 1), (640, 480, 6), (1920, 1080, 1)]
)
def test_an_untagged_matrix_is_guessed_by_size(width: int, height: int, matrix: int) -> None:
    assert luma_weights(Raster(width, height, YUV420P)) == MATRICES[matrix]
    assert luma_weights(Raster(width, height, YUV420P, Colour(matrix=9))) == MATRICES[9]


@pytest.mark.parametrize("pixel", [RGB24, RGBA32, PixelFormat("rgb", 16), PixelFormat("rgb", 16, alpha=True)])
def test_rgb_comes_back_bit_for_bit(pixel: PixelFormat) -> None:
    raster = Raster(53, 37, pixel)
    frames = [noise(pixel, 53, 37, seed) for seed in range(2)]
    back = from_rgb(to_rgb(frames, raster, CPU, torch.float32), frames, raster)
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(frames, back, strict=True))


def test_every_rgb_code_is_its_share_of_white() -> None:
    codes = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    got = read(Frame((codes,), Fraction(0)), Raster(256, 1, RGB24))
    assert torch.equal(got[1, 0], torch.arange(256) / 255)


@pytest.mark.parametrize(("sub_w", "sub_h"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("chroma_location", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(64, 48), (33, 17), (1, 1), (2, 3)])
def test_8_bit_yuv_comes_back_within_one_code(
    sub_w: int, sub_h: int, chroma_location: int, size: tuple[int, int]
) -> None:
    width, height = size
    pixel = PixelFormat("yuv", 8, sub_w, sub_h)  # type: ignore[arg-type]
    raster = Raster(width, height, pixel, Colour(matrix=1, range=1, chroma_location=chroma_location))
    rng = np.random.default_rng(0)
    luma, *chroma = pixel.plane_shapes(width, height)
    planes = [rng.integers(100, 150, luma), *(rng.integers(115, 141, shape) for shape in chroma)]  # inside the gamut
    frame = frame_of(planes, pixel)
    back = from_rgb(to_rgb([frame], raster, CPU, torch.float32), [frame], raster)[0]
    for plane, again in zip(frame.planes, back.planes, strict=True):
        assert np.abs(plane.astype(int) - again).max() <= 1


# Where the first chroma sample lies, in luma samples across and down, for each location.
SITES = {1: (0.0, 0.5), 2: (0.5, 0.5), 3: (0.0, 0.0), 4: (0.5, 0.0)}


@pytest.mark.parametrize("location", sorted(SITES))
def test_chroma_is_read_and_written_where_it_lies(location: int) -> None:
    raster = Raster(32, 24, PixelFormat("yuv", 12, 2, 2), Colour(matrix=1, range=2, chroma_location=location))
    across, down = SITES[location]
    y, x = np.mgrid[:24, :32]
    red_difference = np.mgrid[:12, :16]
    plane = 2048 + 20 * (2 * red_difference[1] + across) + 30 * (2 * red_difference[0] + down)
    luma = np.full((24, 32), 2048.0)
    got = read(frame_of([luma, np.full((12, 16), 2048), np.rint(plane)], raster.pixel), raster)
    wanted = 2048 / 4095 + (20 * x + 30 * y) / 4095 * 2 * (1 - 0.2126)
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(got[0].numpy()[inner] - wanted[inner]).max() < 1e-3

    ramp = torch.from_numpy(np.stack([wanted, np.full_like(wanted, 0.5), np.full_like(wanted, 0.5)])[None]).float()
    v = from_rgb(ramp, [frame_of([], raster.pixel)], raster)[0].planes[2]
    lies = [(20 * (2 * j + across) + 30 * (2 * i + down)) / 4095 * 2 * (1 - 0.2126) for i, j in np.ndindex(12, 16)]
    red = 2048 / 4095 + np.array(lies).reshape(12, 16)
    wanted_v = encode(np.stack([red, 0 * red + 0.5, 0 * red + 0.5], -1), 0.2126, 0.0722, 12, full=True)[2]
    assert np.abs(v.astype(float) - wanted_v)[2:-2, 2:-2].max() < 1.001


def test_alpha_is_straight_and_of_full_range() -> None:
    pixel = PixelFormat("yuv", 8, 2, 2, alpha=True)
    raster = Raster(16, 8, pixel, Colour(range=1))
    frame = noise(pixel, 16, 8)
    x = to_rgb([frame], raster, CPU, torch.float32)
    assert x.shape == (1, 4, 8, 16)
    assert np.array_equal(np.rint(x[0, 3].numpy() * 255), frame.planes[3])
    assert np.array_equal(from_rgb(x, [frame], raster)[0].planes[3], frame.planes[3])


def test_alpha_is_opaque_where_there_was_none_and_dropped_where_it_has_no_place() -> None:
    x = torch.rand(1, 4, 8, 8)
    nowhere = frame_of([], RGB24)
    (opaque,) = from_rgb(x[:, :3], [nowhere], Raster(8, 8, RGBA32))[0].planes
    assert (opaque[..., 3] == 255).all()
    (dropped,) = from_rgb(x, [nowhere], Raster(8, 8, RGB24))[0].planes
    assert np.array_equal(dropped, opaque[..., :3])


def test_a_value_between_two_codes_is_dithered_to_its_mean() -> None:
    x = torch.full((1, 3, 64, 64), (100 + 5 / 16) / 255)
    (codes,) = from_rgb(x, [frame_of([], RGB24)], Raster(64, 64, RGB24))[0].planes
    assert set(np.unique(codes)) == {100, 101}
    assert codes.mean() == pytest.approx(100 + 5 / 16, abs=1e-3)


def test_every_code_that_a_depth_has_is_written_without_dither() -> None:
    for raster in (Raster(64, 16, PixelFormat("rgb", 16)), Raster(64, 16, PixelFormat("yuv", 10), Colour(range=1))):
        top = 2**raster.pixel.bits - 1 if raster.pixel.model == "rgb" else 876
        for code in range(0, top, top // 37):
            x = torch.full((1, 3, 16, 64), code / top)
            plane = from_rgb(x, [frame_of([], raster.pixel)], raster)[0].planes[0]
            assert plane.min() == plane.max()


def test_10_bits_hold_steps_that_8_bits_do_not() -> None:
    ramp = (0.5 + torch.arange(512) / 512 / 32).expand(1, 3, 8, 512)  # 8 codes of 8 bits, 28 of 10
    luma = from_rgb(ramp, [frame_of([], YUV420P10)], Raster(512, 8, YUV420P10, Colour(range=1)))[0].planes[0]
    columns = luma.mean(axis=0)
    wanted = 64 + 876 * (0.5 + np.arange(512) / 512 / 32)
    assert len(np.unique(luma)) >= 28
    assert np.abs(columns - wanted).max() < 0.5


def test_a_large_picture_is_written_as_its_parts_would_be() -> None:
    x = torch.rand(1, 3, 400, 1200, generator=torch.Generator().manual_seed(1))
    for pixel, location in itertools.product((YUV420P10, RGB24), (1, 2, 3)):
        colour = Colour(matrix=1, chroma_location=location)
        (whole,) = from_rgb(x, [frame_of([], pixel)], Raster(1200, 400, pixel, colour))
        (part,) = from_rgb(x[:, :, :16], [frame_of([], pixel)], Raster(1200, 16, pixel, colour))
        for big, small in zip(whole.planes, part.planes, strict=True):
            assert np.array_equal(big[: small.shape[0] - 1], small[:-1])  # the last row of chroma may look below


def test_strided_and_read_only_planes_are_read() -> None:
    padded = np.random.default_rng(0).integers(0, 256, (9, 20, 3), dtype=np.uint8)
    view = padded[:8, 2:18]
    view.flags.writeable = False
    got = read(Frame((view,), Fraction(0)), Raster(16, 8, RGB24))
    assert np.array_equal(np.rint(got.permute(1, 2, 0).numpy() * 255), view)


def test_time_and_duration_stay_with_the_frame() -> None:
    frames = [Frame((np.zeros((4, 4, 3), np.uint8),), Fraction(i, 30), Fraction(1, 30)) for i in range(3)]
    back = from_rgb(torch.zeros(3, 3, 8, 8), frames, Raster(8, 8, RGB24))
    assert [(frame.time, frame.duration) for frame in back] == [(frame.time, frame.duration) for frame in frames]


def test_a_tensor_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="is not 1 frames of 8x8"):
        from_rgb(torch.zeros(1, 3, 8, 9), [frame_of([], RGB24)], Raster(8, 8, RGB24))


def test_resizing_to_the_same_size_changes_nothing() -> None:
    x = torch.rand(1, 3, 9, 7)
    assert resize(x, 9, 7) is x


def test_reducing_does_not_alias() -> None:
    stripes = (torch.arange(256) % 2).float().expand(1, 3, 64, 256)
    small = resize(stripes, 16, 64)
    assert (small[..., 4:-4] - 0.5).abs().max() < 0.01
