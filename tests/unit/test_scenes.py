"""Hard cuts, on sequences made of photographs: what is one, and what only looks like one."""

from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from engine.frames import Frame
from engine.pipelines.scenes import Cuts, thumbnail

Picture = NDArray[np.float64]

NAMES = ("astronaut", "camera", "chelsea", "coffee", "rocket", "coins")


@cache
def photo(name: str) -> Picture:
    x = np.asarray(getattr(skimage.data, name)(), dtype=float)
    return x.mean(axis=-1) if x.ndim == 3 else x


def view(name: str, down: float = 0.5, across: float = 0.5, size: float = 0.8) -> Picture:
    """(90, 160) of a part of the photo, `size` of its edges, at a place from 0 to 1."""
    whole = photo(name)
    height, width = (int(size * n) for n in whole.shape)
    top, left = int((whole.shape[0] - height) * down), int((whole.shape[1] - width) * across)
    part = whole[top : top + height, left : left + width]
    return part[np.arange(90) * height // 90][:, np.arange(160) * width // 160]


def noise(level: float, seed: int) -> Picture:
    return np.random.default_rng(seed).normal(0, level, (90, 160))


def frame(picture: Picture, bits: int = 8) -> Frame:
    codes = np.clip(picture, 0, 255) * 2 ** (bits - 8)
    return Frame((codes.astype(np.uint8 if bits == 8 else np.uint16),), Fraction(0))


def cuts(pictures: Iterable[Picture], bits: int = 8) -> list[int]:
    told = Cuts(bits)
    return [i for i, picture in enumerate(pictures) if told.is_cut(frame(picture, bits))]


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_every_change_of_photograph_is_a_cut(bits: int) -> None:
    for one, other in permutations(NAMES, 2):
        shots = [view(name) + noise(3, i) for name in (one, other) for i in range(3)]
        assert cuts(shots, bits) == [3], (one, other)


def test_a_cut_between_two_pans_is_found() -> None:
    pans = [view(name, 0.3, i * 0.03, 0.5) for name in ("coffee", "rocket", "astronaut") for i in range(8)]
    assert cuts(pans) == [8, 16]


@pytest.mark.parametrize("name", NAMES)
class TestNoCut:
    @pytest.mark.parametrize("speed", [0.01, 0.03, 0.1, 0.2])
    def test_pan(self, name: str, speed: float) -> None:
        assert cuts(view(name, 0.4, min(i * speed, 1), 0.5) for i in range(12)) == []

    def test_zoom(self, name: str) -> None:
        assert cuts(view(name, size=1 - 0.04 * i) for i in range(16)) == []

    def test_noise(self, name: str) -> None:
        assert cuts(view(name) + noise(25, i) for i in range(8)) == []

    def test_low_light(self, name: str) -> None:
        assert cuts(view(name) * 0.05 + 16 + noise(4, i) for i in range(8)) == []

    def test_fade_out_and_in(self, name: str) -> None:
        for steps in (4, 12, 48):
            assert cuts(view(name) * abs(1 - i / steps) for i in range(2 * steps + 1)) == []

    def test_cross_fade(self, name: str) -> None:
        other = view(NAMES[NAMES.index(name) - 1])
        assert cuts(view(name) + (other - view(name)) * i / 12 for i in range(13)) == []

    def test_flicker(self, name: str) -> None:
        assert cuts(view(name) * (0.7 + 0.6 * (i % 2)) for i in range(8)) == []

    def test_one_white_or_black_frame(self, name: str) -> None:
        for flash in (250.0, 16.0):
            assert cuts(np.full((90, 160), flash) if i == 4 else view(name) for i in range(8)) == []


def test_a_scene_after_black_frames_begins_with_its_first_picture() -> None:
    black = np.full((90, 160), 16.0)
    assert cuts([view("coffee")] * 3 + [black] * 3 + [view("rocket")] * 3) == [6]


def test_the_first_frame_is_no_cut_and_what_was_before_one_is_forgotten() -> None:
    restless = [view("coffee", across=i % 2, size=0.3) for i in range(6)]
    rest = [view("rocket"), view("rocket"), view("camera")]
    found = cuts(restless + rest)
    assert 0 not in found
    assert found[-2:] == [6, 8]


def test_colours_are_seen_by_their_green_whatever_the_strides() -> None:
    rgb = np.asarray(skimage.data.astronaut())
    wide = Frame((np.flip(np.flip(rgb, 0).copy(), 0),), Fraction(0))
    green = Frame((rgb[..., 1],), Fraction(0))
    assert np.array_equal(thumbnail(wide), thumbnail(green))


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (17, 5)])
def test_the_smallest_frames_have_thumbnails(shape: tuple[int, int]) -> None:
    assert np.allclose(thumbnail(Frame((np.full(shape, 77, np.uint8),), Fraction(0))), 77)
