"""Chunks of a stream and tiles of a picture."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spans import chunks, spans, tiles


def test_each_chunk_begins_with_the_end_of_the_last() -> None:
    assert list(chunks("abcdefg", size=4, overlap=1)) == [list("abcd"), list("defg")]


def test_only_the_last_chunk_is_shorter() -> None:
    assert list(chunks("abcde", size=2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_chunks_never_read_ahead() -> None:
    taken = []

    def counted() -> Iterator[int]:
        for i in range(10):
            taken.append(i)
            yield i

    next(chunks(counted(), size=3))
    assert taken == [0, 1, 2]


def test_an_overlap_as_large_as_the_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap of 2"):
        list(chunks("abc", size=2, overlap=2))


def test_parts_are_about_equal_and_see_their_surroundings() -> None:
    assert [(s.start, s.end, s.outer_start, s.outer_end) for s in spans(100, size=60, pad=8)] == [
        (0, 50, 0, 58),
        (50, 100, 42, 100),
    ]


def test_a_length_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 2"):
        spans(33, size=16, pad=0, multiple=2)


@given(st.integers(1, 400), st.integers(0, 90), st.integers(0, 40), st.sampled_from([1, 2, 4]))
def test_parts_cover_the_length_once_within_their_size(count: int, size: int, pad: int, multiple: int) -> None:
    length, size = count * multiple, size * multiple
    parts = spans(length, size, pad, multiple)
    assert [i for part in parts for i in range(part.start, part.end)] == list(range(length))
    for part in parts:
        assert not size or part.end - part.start <= size
        assert 0 <= part.outer_start <= part.start < part.end <= part.outer_end <= length
        assert part.outer_start == 0 or part.start - part.outer_start >= pad
        assert part.outer_end == length or part.outer_end - part.end >= pad
        assert {n % multiple for n in (part.start, part.end, part.outer_start, part.outer_end)} == {0}


def test_tiles_go_row_by_row() -> None:
    corners = [(rows.start, columns.start) for rows, columns in tiles(4, 6, size=3, pad=1)]
    assert corners == [(0, 0), (0, 3), (2, 0), (2, 3)]
