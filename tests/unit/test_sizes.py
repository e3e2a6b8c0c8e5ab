"""What size a result gets: precedence, rounding, caps and limits."""

import pytest

from engine.errors import InvalidInput
from engine.jobs.requests import parse
from engine.jobs.sizes import Size, target_size
from engine.jobs.upscale_fields import UpscaleFields

LIMIT = 8192 * 8192


def asked(**fields: object) -> UpscaleFields:
    request = parse({"input": {"source": "https://example.com/a.mp4", **fields}})
    assert isinstance(request, UpscaleFields)
    return request


def size(
    source_width: int, source_height: int, /, *, model_scale: int | None = 4, even: bool = True, **fields: object
) -> Size:
    wish = asked(**fields)
    return target_size(wish, source_width, source_height, model_scale=model_scale, even=even, most_pixels=LIMIT)


def edges(source_width: int, source_height: int, /, **fields: object) -> tuple[int, int]:
    found = size(source_width, source_height, **fields)  # type: ignore[arg-type]
    return found.width, found.height


def test_without_a_wish_the_model_decides() -> None:
    assert edges(640, 480) == (2560, 1920)
    assert edges(640, 480, model_scale=None) == (1440, 1080)


def test_resolution_is_the_short_edge_whichever_it_is() -> None:
    assert edges(640, 480, resolution=720) == (960, 720)
    assert edges(480, 640, resolution="720p") == (720, 960)
    assert edges(1920, 1080, resolution="4k") == (3840, 2160)


def test_height_and_width_are_a_box() -> None:
    assert edges(640, 480, width=1920, height=1080) == (1440, 1080)
    assert edges(480, 640, res_h="1080", res_w="1920") == (810, 1080)


def test_one_edge_brings_the_other_along() -> None:
    assert edges(640, 480, width=1280) == (1280, 960)
    assert edges(640, 480, height=240) == (320, 240)


def test_output_dims_are_taken_as_they_are() -> None:
    assert edges(640, 480, output_dims=[100, 100]) == (100, 100)


def test_factors_multiply_the_source() -> None:
    assert edges(640, 480, outscale=1.5) == (960, 720)
    assert edges(100, 100, output_magnification=1.1) == (110, 110)


def test_the_order_of_precedence_and_what_lost_is_said() -> None:
    wishes: dict[str, object] = {
        "output_dims": [64, 64],
        "height": 96,
        "resolution": 128,
        "output_magnification": 3,
        "outscale": 2,
    }
    expected = [(64, 64), (128, 96), (170, 128), (1920, 1440), (1280, 960)]
    for size_, lost in zip(expected, range(4, -1, -1), strict=True):
        found = size(640, 480, **wishes)  # type: ignore[arg-type]
        overridden = [note for note in found.notes if note.code == "SIZE_OVERRIDDEN"]
        assert (found.width, found.height) == size_
        assert len(overridden) == lost
        del wishes[next(iter(wishes))]


def test_a_note_names_what_lost_and_what_won() -> None:
    (note,) = size(640, 480, resolution=720, outscale=2).notes
    assert note.message == "`outscale` had no effect on the size, because `resolution` decides it"


def test_max_edge_caps_the_long_edge_and_says_so() -> None:
    found = size(640, 480, resolution=2160, max_edge=1920)
    assert (found.width, found.height) == (1920, 1440)
    assert [note.code for note in found.notes] == ["SIZE_OVERRIDDEN"]
    assert "`max_edge`" in found.notes[0].message
    assert size(640, 480, resolution=480, max_edge=1920).notes == ()


def test_odd_edges_are_rounded_only_where_the_codec_needs_it() -> None:
    assert edges(33, 17, outscale=1, even=False) == (33, 17)
    found = size(33, 17, outscale=1)
    assert (found.width, found.height) == (32, 16)
    assert [note.code for note in found.notes] == ["SIZE_ROUNDED"]
    assert "33x17 became 32x16" in found.notes[0].message


def test_rounding_never_leaves_the_box() -> None:
    assert edges(100, 100, width=33, height=99) == (32, 32)
    assert edges(100, 100, outscale=1, max_edge=33) == (32, 32)


def test_no_edge_vanishes() -> None:
    assert edges(10_000, 1, width=100) == (100, 2)
    assert edges(10_000, 1, width=100, even=False) == (100, 1)
    assert edges(1, 1, outscale=0.1) == (2, 2)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"output_dims": [32768, 32768]}, "output_dims"),
        ({"outscale": 32}, "outscale"),
        ({"width": 32768}, "width"),
        ({}, "outscale"),
    ],
)
def test_a_size_over_the_limit_names_the_field_and_the_limit(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        size(4000, 4000, **fields)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert str(LIMIT) in caught.value.message


def test_max_edge_saves_a_size_over_the_limit() -> None:
    assert edges(4000, 4000, outscale=32, max_edge=4096) == (4096, 4096)
