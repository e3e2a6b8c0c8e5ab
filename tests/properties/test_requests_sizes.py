"""Sizes, for every source and every wish."""

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.jobs.sizes import Size, target_size
from engine.jobs.upscale_fields import UpscaleFields

edge = st.integers(1, 20_000)
bound = st.integers(16, 32_768)
factor = st.floats(0.01, 32)
no_limit = 2**80

wishes = st.fixed_dictionaries(
    {},
    optional={
        "height": bound,
        "width": bound,
        "resolution": bound,
        "output_magnification": factor,
        "outscale": factor,
        "max_edge": st.just(0) | bound,
    },
)


def sized(wish: dict[str, Any], width: int, height: int, *, even: bool, scale: int | None = 4) -> Size:
    return target_size(UpscaleFields(**wish), width, height, model_scale=scale, even=even, most_pixels=no_limit)


@given(wishes, edge, edge, st.booleans(), st.sampled_from([None, 1, 2, 4]))
def test_the_aspect_is_kept_within_a_pixel(
    wish: dict[str, Any], width: int, height: int, even: bool, scale: int | None
) -> None:
    size = sized(wish, width, height, even=even, scale=scale)
    # Each edge may be off by one from a common exact factor: the two factors' ranges overlap, unless an edge vanished.
    smallest = 2 if even else 1
    if min(size.width, size.height) > smallest:
        low = max(Fraction(size.width - 1, width), Fraction(size.height - 1, height))
        high = min(Fraction(size.width + 1, width), Fraction(size.height + 1, height))
        assert low <= high


@given(wishes, edge, edge, st.booleans())
def test_no_box_and_no_cap_is_passed(wish: dict[str, Any], width: int, height: int, even: bool) -> None:
    size = sized(wish, width, height, even=even)
    if "width" in wish and "height" in wish:
        assert size.width <= wish["width"]
        assert size.height <= wish["height"]
    if wish.get("max_edge"):
        assert max(size.width, size.height) <= wish["max_edge"]


@given(wishes, edge, edge)
def test_edges_are_even_where_the_codec_needs_it_and_the_change_is_said(
    wish: dict[str, Any], width: int, height: int
) -> None:
    even, plain = sized(wish, width, height, even=True), sized(wish, width, height, even=False)
    assert even.width % 2 == even.height % 2 == 0
    changed = (even.width, even.height) != (plain.width, plain.height)
    assert changed == any(note.code == "SIZE_ROUNDED" for note in even.notes)
    assert abs(even.width - plain.width) <= 1
    assert abs(even.height - plain.height) <= 1


@given(st.tuples(bound, bound), wishes, edge, edge, st.booleans())
def test_output_dims_do_not_look_at_the_source(
    dims: tuple[int, int], wish: dict[str, Any], width: int, height: int, even: bool
) -> None:
    wish = {**wish, "output_dims": dims}
    here, there = sized(wish, width, height, even=even), sized(wish, 640, 480, even=even)
    assert (here.width, here.height) == (there.width, there.height)


@given(wishes, edge, edge, st.booleans())
def test_the_same_wish_gives_the_same_size(wish: dict[str, Any], width: int, height: int, even: bool) -> None:
    assert sized(wish, width, height, even=even) == sized(wish, width, height, even=even)
