"""Which tokens attend to each other, and the order that puts windows of one shape side by side."""

import time
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.models.seedvr2.layout import Layout, layouts
from engine.models.seedvr2.windows import groups, pieces, window_size

CPU = torch.device("cpu")
FACTS = [  # grid; plain windows, shapes; shifted windows, shapes; tokens of the largest window
    ((2, 45, 80), (18, 2), (32, 6), 405),
    ((6, 45, 80), (27, 2), (64, 12), 810),
    ((1, 68, 120), (25, 4), (30, 9), 405),
    ((2, 68, 120), (50, 4), (60, 9), 405),
    ((6, 68, 120), (75, 4), (120, 18), 810),
    ((21, 68, 120), (100, 8), (120, 18), 2430),
    ((1, 135, 240), (81, 2), (100, 9), 405),
]
grids = st.tuples(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))


@pytest.mark.parametrize(("grid", "plain", "shifted", "largest"), FACTS)
def test_published_grids_have_the_published_windows(
    grid: tuple[int, int, int], plain: tuple[int, int], shifted: tuple[int, int], largest: int
) -> None:
    found = [groups(*grid, shifted=False), groups(*grid, shifted=True)]
    assert [(sum(group.windows for group in kind), len(kind)) for kind in found] == [plain, shifted]
    assert max(group.tokens for kind in found for group in kind) == largest


def test_shifted_windows_begin_with_half_a_window() -> None:
    assert pieces(7, 3, shifted=False) == [(0, 3), (3, 6), (6, 7)]
    assert pieces(7, 3, shifted=True) == [(0, 1), (1, 4), (4, 7)]
    assert pieces(3, 3, shifted=True) == [(0, 3)]
    assert pieces(3, 1, shifted=True) == [(0, 1), (1, 2), (2, 3)]


@given(grids, st.integers(1, 3), st.integers(1, 2000))
@settings(max_examples=60)
def test_every_token_is_in_exactly_one_window(grid: tuple[int, int, int], batch: int, limit: int) -> None:
    size = window_size(*grid)
    for shifted, layout in enumerate(layouts(batch, *grid, limit, CPU)):
        axes = [pieces(n, k, bool(shifted)) for n, k in zip(grid, size, strict=True)]
        wanted = {window(batch, grid, clip, cut) for clip, *cut in product(range(batch), *axes)}
        assert set(windows_of(layout)) == wanted
        assert len(layout.order) == sum(len(places) for places in wanted) == batch * grid[0] * grid[1] * grid[2]


@given(grids, st.integers(1, 3), st.integers(1, 2000))
@settings(max_examples=60)
def test_chunks_follow_each_other_and_hold_no_more_than_the_limit(
    grid: tuple[int, int, int], batch: int, limit: int
) -> None:
    for layout in layouts(batch, *grid, limit, CPU):
        ends = [chunk.start + chunk.tokens for chunk in layout.chunks]
        assert [0, *ends] == [*(chunk.start for chunk in layout.chunks), len(layout.order)]
        for chunk in layout.chunks:
            alone = len(chunk.runs) == 1 and chunk.runs[0].clips * chunk.runs[0].windows == 1
            assert chunk.tokens <= limit or alone


@given(grids, st.integers(1, 3))
@settings(max_examples=30)
def test_there_and_back_is_where_it_was(grid: tuple[int, int, int], batch: int) -> None:
    plain, shifted = layouts(batch, *grid, 1000, CPU)
    raster = torch.arange(len(plain.order))
    stream = raster[plain.order]
    assert torch.equal(stream[shifted.turn], shifted.order)
    assert torch.equal(stream[shifted.turn][plain.turn], stream)
    assert torch.equal(stream[shifted.turn][shifted.place], raster)


def test_the_layout_of_a_long_4k_clip_is_made_in_a_moment() -> None:
    begun = time.process_time()
    layouts(1, 21, 135, 240, 8192, CPU)
    assert time.process_time() - begun < 1


def window(batch: int, grid: tuple[int, int, int], clip: int, cut: list[tuple[int, int]]) -> tuple[int, ...]:
    places = torch.arange(batch * grid[0] * grid[1] * grid[2]).view(batch, *grid)
    (t0, t1), (h0, h1), (w0, w1) = cut
    return tuple(places[clip, t0:t1, h0:h1, w0:w1].flatten().tolist())


def windows_of(layout: Layout) -> list[tuple[int, ...]]:
    """Each window's places in the grid, in the order of the stream."""
    found, at = [], 0
    for run in (run for chunk in layout.chunks for run in chunk.runs):
        length = run.shape[0] * run.shape[1] * run.shape[2]
        for _ in range(run.clips * run.windows):
            found.append(tuple(layout.order[at : at + length].tolist()))
            at += length
    return found
