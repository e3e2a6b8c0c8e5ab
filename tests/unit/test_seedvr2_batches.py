"""Batches of SeedVR2: where they begin, what they share, and that reading never matters."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.pipelines.seedvr2.batches import Batches, mirrored_front


def cut(frames: int, size: int, overlap: int, cuts: tuple[int, ...] = (), prepend: int = 0) -> list[list[int]]:
    batches = Batches(range(frames), lambda frame: frame in cuts, prepend)
    found = []
    while (batch := batches.take(size, overlap)) is not None:
        found.append(batch.frames)
        batches.done(batch, overlap)
    return found


def test_batches_share_their_overlap() -> None:
    assert cut(11, 5, 2) == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9, 10]]


def test_no_batch_holds_shared_frames_alone() -> None:
    assert cut(5, 5, 2) == [[0, 1, 2, 3, 4]]
    assert cut(6, 5, 2) == [[0, 1, 2, 3, 4], [3, 4, 5]]


def test_a_cut_begins_a_batch_that_shares_nothing() -> None:
    assert cut(9, 5, 2, cuts=(6,)) == [[0, 1, 2, 3, 4], [3, 4, 5], [6, 7, 8]]
    assert cut(7, 5, 2, cuts=(5,)) == [[0, 1, 2, 3, 4], [5, 6]]


def test_a_batch_that_ends_a_scene_says_so() -> None:
    batches = Batches(range(7), lambda frame: frame == 5)
    ends = []
    while (batch := batches.take(5, 1)) is not None:
        ends.append(batch.last)
        batches.done(batch, 1)
    assert ends == [True, True]


@pytest.mark.parametrize(("frames", "count", "front"), [(6, 2, [2, 1]), (3, 4, [2, 2, 2, 1]), (1, 2, [0, 0])])
def test_frames_put_in_front_are_the_mirror_image(frames: int, count: int, front: list[int]) -> None:
    assert mirrored_front(list(range(frames)), count) == front
    assert cut(frames, 20, 0, prepend=count) == [[*front, *range(frames)]]


def test_what_is_put_in_front_stays_in_the_first_scene() -> None:
    assert cut(6, 20, 0, cuts=(2,), prepend=3) == [[1, 1, 1, 0, 1], [2, 3, 4, 5]]


def test_a_smaller_batch_goes_on_where_the_larger_failed() -> None:
    batches = Batches(range(20), lambda frame: False)
    first = batches.take(9, 3)
    assert first is not None
    batches.done(first, 3)
    assert batches.take(9, 3).frames == [6, 7, 8, 9, 10, 11, 12, 13, 14]  # type: ignore[union-attr]
    smaller = batches.take(5, 1)
    assert smaller is not None
    assert (smaller.frames, smaller.shared) == ([8, 9, 10, 11, 12], 1)


def test_no_more_than_one_frame_is_read_ahead() -> None:
    read = []

    def stream() -> Iterator[int]:
        for n in range(10**9):
            read.append(n)
            yield n

    batches = Batches(stream(), lambda frame: False)
    batch = batches.take(5, 1)
    assert batch is not None
    assert len(read) == 6


@given(
    frames=st.integers(0, 60),
    size=st.integers(1, 20),
    share=st.integers(0, 10),
    cuts=st.sets(st.integers(1, 59)),
    prepend=st.integers(0, 5),
)
def test_every_frame_comes_once_beside_what_is_shared(
    frames: int, size: int, share: int, cuts: set[int], prepend: int
) -> None:
    overlap = min(share, size // 2)
    batches = Batches(range(frames), lambda frame: frame in cuts, prepend)
    came: list[int] = []
    before: list[int] = []
    while (batch := batches.take(size, overlap)) is not None:
        assert 0 < len(batch.frames) <= size
        assert batch.shared < len(batch.frames)
        assert batch.frames[: batch.shared] == before[len(before) - batch.shared :]
        came += batch.frames[batch.shared :]
        before = batch.frames
        batches.done(batch, overlap)
    assert came[prepend:] == list(range(frames))
