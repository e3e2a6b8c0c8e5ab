"""The pictures that the bundled network learns from, and what is done to them."""

import numpy as np
import pytest

from builder.bundled.degrade import degrade, h264, halve, jpeg
from builder.bundled.pictures import HELD_OUT, TRAINING, Picture, draw_picture, generator
from builder.bundled.pool import draw_pairs


@pytest.fixture(scope="module")
def picture() -> Picture:
    return draw_picture(generator(5, TRAINING, 0), 96)


def test_the_same_seed_draws_the_same_pictures() -> None:
    once, again = (draw_pairs(7, TRAINING, 3, 64) for _ in range(2))
    assert np.array_equal(once.low, again.low)
    assert np.array_equal(once.high, again.high)


def test_workers_draw_what_one_process_draws() -> None:
    alone, shared = draw_pairs(7, TRAINING, 2, 64), draw_pairs(7, TRAINING, 2, 64, workers=2)
    assert np.array_equal(alone.high, shared.high)
    assert np.array_equal(alone.low, shared.low)


def test_held_out_pictures_are_not_those_of_the_training() -> None:
    training, held_out = (draw_pairs(7, stream, 2, 64).high for stream in (TRAINING, HELD_OUT))
    assert not np.array_equal(training, held_out)


def test_pictures_use_the_whole_range_and_differ() -> None:
    high = draw_pairs(3, TRAINING, 12, 64).high
    assert high.min() < 20
    assert high.max() > 235
    assert len({picture.tobytes() for picture in high}) == 12


@pytest.mark.parametrize("index", range(12))
def test_every_degradation_halves_the_size(index: int, picture: Picture) -> None:
    low = degrade(generator(5, TRAINING, index), picture)
    assert low.shape == (48, 48, 3)
    assert low.dtype == np.uint8


@pytest.mark.parametrize("value", [0, 60, 128, 200, 255])
def test_compression_keeps_a_grey_picture_grey(value: int) -> None:
    grey = np.full((48, 48, 3), value, np.uint8)
    for lossy in (jpeg(grey, 85), h264(grey, 20)):
        assert abs(lossy.astype(int) - value).max() <= 1


def test_h264_returns_the_second_frame_and_loses_more_at_a_higher_crf(picture: Picture) -> None:
    low = halve(picture)
    losses = [np.abs(h264(low, crf, motion=(2, 1)).astype(int) - low).mean() for crf in (10, 34)]
    moved = np.abs(np.roll(low, (2, 1), (0, 1)).astype(int) - low).mean()
    assert losses[0] < losses[1]
    assert losses[0] < moved
