"""What Wan2.1 makes of a valid request: defaults by task, model, size and LoRA, and sizes that keep an aspect."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from engine.catalog import File, Lora, Model, Source
from engine.errors import InvalidInput
from engine.frames import Colour
from engine.jobs.generate_rules import aspect_kept, is_720p, settled, sized
from engine.jobs.requests import GenerateRequest, parse
from engine.media.info import MediaInfo
from engine.pipelines.wan.limits import steps_run
from tests.unit.test_plan import PICTURE, VIDEO

PUBLIC = Source("Apache-2.0")
MODEL = Model("wan", "wan", ("t2v",), "", 1, "BF16", (File("a", None, "a", "dit", PUBLIC),), architecture="t2v-14b")
LARGE = replace(MODEL, architecture="i2v-14b-720p")
LORA = Lora("fast", "", File("b", None, "b", "lora", PUBLIC), ("t2v-14b",), 4, 1.0, 7.0, "euler")


def asked(**fields: Any) -> GenerateRequest:
    request = parse({"input": {"prompt": "a cat", **fields}})
    assert isinstance(request, GenerateRequest)
    return request


def made(
    source: MediaInfo | None = None, model: Model = MODEL, loras: tuple[Lora, ...] = (), **fields: Any
) -> GenerateRequest:
    """The request with everything settled."""
    return sized(settled(asked(**fields), loras)[0], model, source, loras)[0]


def of_size(width: int, height: int, **fields: Any) -> MediaInfo:
    return replace(PICTURE, raster=replace(PICTURE.raster, width=width, height=height), **fields)


@pytest.mark.parametrize(
    ("fields", "steps"), [({}, 50), ({"image": "a"}, 40), ({"video": "a"}, 50), ({"steps": 7}, 7)], ids=str
)
def test_steps_go_by_the_task(fields: dict[str, Any], steps: int) -> None:
    assert settled(asked(**fields), ())[0].steps == steps


def test_what_is_left_open_goes_by_the_first_lora_that_says_so() -> None:
    request = made(loras=(replace(LORA, steps=None), replace(LORA, steps=6, guidance=2.0)))
    assert (request.steps, request.guidance, request.shift, request.solver) == (6, 1.0, 7.0, "euler")
    mine = made(loras=(LORA,), steps=20, guidance=4, shift=3, solver="unipc")
    assert (mine.steps, mine.guidance, mine.shift, mine.solver) == (20, 4, 3, "unipc")


@pytest.mark.parametrize(
    ("fields", "frames"), [({}, 81), ({"frames": 64}, 64), ({"duration": 5}, 80), ({"duration": 0.01}, 1)], ids=str
)
def test_frames_are_counted_at_the_model_s_rate(fields: dict[str, Any], frames: int) -> None:
    assert made(**fields).frames == frames


def test_a_given_seed_stays_and_an_open_one_is_drawn() -> None:
    assert settled(asked(seed=2**53 - 1), ())[0].seed == 2**53 - 1
    assert 0 <= settled(asked(), ())[0].seed < 2**32


def test_size_and_shift_go_by_the_model() -> None:
    small, large = made(), made(model=LARGE)
    assert (small.width, small.height, small.shift) == (832, 480, 3.0)
    assert (large.width, large.height, large.shift) == (1280, 720, 5.0)
    assert made(size="1280*720").shift == 5.0 and made(model=LARGE, size="480*832").shift == 3.0
    assert is_720p(LARGE) and not is_720p(MODEL)


@pytest.mark.parametrize(
    ("image", "area", "size"),
    [
        ((1280, 720), 832 * 480, (832, 464)),
        ((832, 480), 832 * 480, (832, 480)),
        ((480, 832), 832 * 480, (480, 832)),
        ((1, 1), 832 * 480, (624, 624)),
        ((1280, 720), 1280 * 720, (1280, 720)),
        ((20_000, 300), 832 * 480, (5152, 64)),
        ((3, 20_000), 832 * 480, (16, 51_584)),
    ],
)
def test_an_aspect_is_kept_in_multiples_of_16(image: tuple[int, int], area: int, size: tuple[int, int]) -> None:
    assert aspect_kept(Fraction(image[1], image[0]), area) == size


def test_the_area_that_was_asked_for_is_the_one_that_is_kept() -> None:
    request = made(of_size(200, 100), image="a", size="256*256")
    assert (request.width, request.height) == (352, 176)
    assert made(of_size(200, 100), image="a", size="256*256", fit="pad").dims == (256, 256)


def test_pixels_that_are_not_square_count_as_they_are_shown() -> None:
    wide = of_size(100, 100, sample_aspect_ratio=Fraction(2))
    request = made(wide, image="a", size="256*256")
    assert (request.width, request.height) == (352, 176)
    _, notes = sized(settled(asked(image="a", size="256*256", fit="crop"), ())[0], MODEL, wide, ())
    assert [note.code for note in notes] == ["ASPECT_RATIO_LOST"]


def test_an_edge_over_the_limit_is_refused_by_the_source_s_field() -> None:
    with pytest.raises(InvalidInput, match="image_base64: is 20000x3"):
        made(of_size(20_000, 3), image_base64="AAAA")


@pytest.mark.parametrize(
    ("duration", "frames"), [(Fraction(2), 32), (Fraction(1, 25), 1), (Fraction(1, 100), 1), (Fraction(60), 81)]
)
def test_a_video_is_used_up_to_what_the_model_makes_at_once(duration: Fraction, frames: int) -> None:
    assert made(replace(VIDEO, duration=duration), video="a").frames == frames


def test_hdr_is_told() -> None:
    hdr = replace(VIDEO, raster=replace(VIDEO.raster, colour=Colour(9, 16, 9, 1)))
    _, notes = sized(settled(asked(video="a"), ())[0], MODEL, hdr, ())
    assert [note.code for note in notes] == ["HDR_IGNORED"]


def notes_of(**fields: Any) -> dict[str, str]:
    """What is said of a request before its source is known."""
    return {note.code: note.message for note in settled(asked(**fields), ())[1]}


def test_without_guidance_a_negative_prompt_is_ignored_and_that_is_said() -> None:
    assert "under guidance" in notes_of(guidance=1, negative_prompt="rain")["FIELD_IGNORED"]
    assert made(guidance=1, negative_prompt="rain").negative_prompt is None
    assert made(loras=(LORA,), negative_prompt="rain").negative_prompt is None
    assert notes_of(guidance=1, negative_prompt="") == notes_of(negative_prompt="rain") == {}
    assert made(negative_prompt="rain").negative_prompt == "rain"


def test_a_strength_that_leaves_no_step_is_told_which_one_would() -> None:
    assert notes_of(video="a", strength=0.01)["NO_STEPS"] == (
        "strength 0.01 of 50 steps leaves none: the video is only encoded and decoded; from 0.02 on it changes"
    )
    assert notes_of(video="a", strength=0) == notes_of(video="a", strength=0.02) == {}


@pytest.mark.parametrize("steps", range(1, 101))
def test_from_the_strength_that_is_told_on_a_step_is_run(steps: int) -> None:
    told = notes_of(video="a", strength=0.5 / steps, steps=steps)["NO_STEPS"]
    least = float(told.split("from ")[1].split()[0])
    assert steps_run(steps, least) == 1 and steps_run(steps, least - 0.001) == 0
