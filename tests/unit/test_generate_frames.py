"""Frames before and after a model: taken at its rate, told anew, and laid aside on the disk without loss."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.frames import RGB24, YUV420P, YUV420P10, Frame, PixelFormat, Raster
from engine.jobs.spool import Spool
from engine.jobs.timing import at_rate, retimed


def numbered(times: list[Fraction]) -> Iterator[Frame]:
    """Frames that carry their place in the only pixel they have."""
    return (Frame((np.array([[index]], np.uint8),), time) for index, time in enumerate(times))


def taken(times: list[Fraction], count: int) -> list[int]:
    return [int(frame.planes[0][0, 0]) for frame in at_rate(numbered(times), 16, count)]


def test_of_a_faster_video_frames_are_left_out_and_of_a_slower_one_repeated() -> None:
    assert taken([Fraction(n, 48) for n in range(12)], 4) == [0, 3, 6, 9]
    assert taken([Fraction(n, 8) for n in range(3)], 6) == [0, 0, 1, 1, 2, 2]


def test_times_count_from_the_first_frame() -> None:
    assert taken([Fraction(7) + Fraction(n, 16) for n in range(4)], 4) == [0, 1, 2, 3]


def test_a_source_that_ends_early_holds_its_last_frame() -> None:
    assert taken([Fraction(0), Fraction(1, 16)], 4) == [0, 1, 1, 1]


def test_no_more_is_read_than_is_needed() -> None:
    source = numbered([Fraction(n, 16) for n in range(100)])
    assert len(list(at_rate(source, 16, 3))) == 3
    assert next(source).planes[0][0, 0] == 4


@given(st.lists(st.fractions(0, 3), min_size=1, max_size=12, unique=True), st.integers(1, 40))
def test_every_frame_is_the_last_that_began_by_its_time(times: list[Fraction], count: int) -> None:
    times = sorted(times)
    expected = [sum(time - times[0] <= Fraction(k, 16) for time in times) - 1 for k in range(count)]
    assert taken(times, count) == expected


def test_frames_are_told_anew_one_after_another() -> None:
    made = list(retimed(numbered([Fraction(5)] * 3), Fraction(24), Fraction(1)))
    assert [frame.time for frame in made] == [1, Fraction(25, 24), Fraction(26, 24)]
    assert {frame.duration for frame in made} == {Fraction(1, 24)}


@pytest.mark.parametrize(
    "pixel", [RGB24, PixelFormat("rgb", 16), YUV420P, YUV420P10], ids=["rgb", "rgb16", "yuv", "yuv10"]
)
def test_frames_laid_aside_come_back_as_they_were_as_often_as_wanted(tmp_path: Path, pixel: PixelFormat) -> None:
    raster = Raster(7, 5, pixel)
    random = np.random.default_rng(0)
    frames = [
        Frame(
            tuple(random.integers(0, 2**pixel.bits, shape).astype(pixel.dtype) for shape in pixel.plane_shapes(7, 5)),
            Fraction(n, 16),
            Fraction(1, 16),
        )
        for n in range(3)
    ]
    spool = Spool(tmp_path / "frames", raster)
    spool.fill(frames)
    assert (tmp_path / "frames").stat().st_size == Spool.bytes_for(raster, 3)
    for _ in range(2):
        back = list(spool)
        assert [(frame.time, frame.duration) for frame in back] == [(f.time, f.duration) for f in frames]
        for one, other in zip(back, frames, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one.planes, other.planes, strict=True))
