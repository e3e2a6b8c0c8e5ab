"""What a job will make of its source: container, codec, layout, colour, size and name, before a frame is read."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from engine import catalog
from engine.errors import InvalidInput
from engine.frames import RGB24, RGBA32, YUV420P, YUV420P10, Colour, PixelFormat, Raster
from engine.jobs.plan import Outline, outline, target_raster
from engine.jobs.requests import UpscaleRequest, parse
from engine.jobs.sizes import Size
from engine.media.info import MediaInfo
from engine.notes import Note

BUNDLED = catalog.built_in().resolve(None, ("bundled",))
HDR10 = Colour(primaries=9, transfer=16, matrix=9, range=1)
BT709 = Colour(1, 1, 1, 1)
SRGB = Colour(1, 13, 0, 2)

VIDEO = MediaInfo(
    kind="video",
    container="mp4",
    codec="h264",
    raster=Raster(64, 48, YUV420P, BT709),
    rotation=0,
    sample_aspect_ratio=Fraction(1),
    fps=Fraction(25),
    frames=50,
    duration=Fraction(2),
    start=Fraction(0),
    time_base=Fraction(1, 12800),
    variable_rate=False,
    interlaced=False,
    audio=(),
    chapters=0,
    bytes=10_000,
    animated=False,
)
PICTURE = replace(VIDEO, kind="image", container="png", codec="png", raster=Raster(33, 17, RGB24, SRGB), frames=1)
HDR = replace(VIDEO, codec="hevc", raster=Raster(64, 48, YUV420P10, HDR10))
CLEAR = replace(VIDEO, container="gif", codec="gif", animated=True, raster=Raster(64, 48, RGBA32, SRGB))


def plan(info: MediaInfo, name: str = "clip.mov", most_pixels: int = 8192**2, **fields: Any) -> Outline:
    request = parse({"input": {"source": "a", **fields}})
    assert isinstance(request, UpscaleRequest)
    return outline(request, BUNDLED, info, name, most_pixels)


def codes(made: Outline) -> list[str]:
    return [note.code for note in made.notes]


def wrong_fields(info: MediaInfo, **fields: Any) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        plan(info, **fields)
    return {problem.field for problem in caught.value.problems}


def test_a_video_becomes_mp4_and_a_picture_png() -> None:
    assert (plan(VIDEO).spec.container, plan(VIDEO).spec.codec) == ("mp4", "h264")
    assert (plan(PICTURE).spec.container, plan(PICTURE).spec.codec) == ("png", "png")


def test_the_source_s_timing_goes_into_the_result() -> None:
    spec = plan(replace(VIDEO, sample_aspect_ratio=Fraction(4, 3))).spec
    assert (spec.fps, spec.time_base, spec.sample_aspect_ratio) == (25, Fraction(1, 12800), Fraction(4, 3))


def test_exact_dimensions_have_square_pixels() -> None:
    spec = plan(replace(VIDEO, sample_aspect_ratio=Fraction(4, 3)), output_dims=[100, 40]).spec
    assert (spec.width, spec.height, spec.sample_aspect_ratio) == (100, 40, 1)


@pytest.mark.parametrize(
    ("fields", "frames"),
    [
        ({}, 50),
        ({"start": 1}, 25),
        ({"start": 0.5, "end": 1}, 12),
        ({"skip_frames": 45}, 5),
        ({"max_frames": 7}, 7),
        ({"max_frames": 700}, 50),
    ],
    ids=str,
)
def test_frames_are_those_of_the_clip(fields: dict[str, Any], frames: int) -> None:
    assert plan(VIDEO, **fields).frames == frames


def test_an_empty_clip_names_its_field() -> None:
    assert wrong_fields(VIDEO, start=2) == {"start"}
    assert wrong_fields(VIDEO, skip_frames=50) == {"skip_frames"}


def test_the_kind_that_was_asked_for_is_demanded() -> None:
    assert wrong_fields(VIDEO, media="image") == {"media"}
    assert wrong_fields(PICTURE, media="video") == {"media"}
    assert plan(VIDEO, media="video").frames == 50


def test_one_picture_cannot_hold_many() -> None:
    assert wrong_fields(VIDEO, output_format="jpg") == {"output_format"}
    assert plan(VIDEO, output_format="jpg", max_frames=1).spec.container == "jpg"


def test_hdr_becomes_10_bit_hevc_by_itself() -> None:
    made = plan(HDR)
    assert (made.spec.codec, made.spec.pixel, made.target.colour) == ("hevc", YUV420P10, HDR10)
    assert codes(made) == ["HDR_KEPT"]


@pytest.mark.parametrize(
    ("fields", "codec", "bits", "told"),
    [
        ({"bit_depth": 10}, "h264", 10, []),
        ({"bit_depth": 8}, "h264", 8, ["HDR_IN_8_BITS"]),
        ({"codec": "av1"}, "av1", 8, ["HDR_IN_8_BITS"]),
        ({"codec": "av1", "bit_depth": 10}, "av1", 10, []),
        ({"codec": "prores", "output_format": "mov"}, "prores", 10, []),
        ({"output_format": "webm"}, "vp9", 8, ["HDR_IN_8_BITS"]),
        ({"output_format": "gif"}, "gif", 8, ["HDR_UNTAGGED"]),
        ({"output_format": "png_sequence", "bit_depth": 10}, "png", 16, ["HDR_UNTAGGED"]),
    ],
    ids=str,
)
def test_what_is_asked_for_wins_over_the_source_s_hdr(
    fields: dict[str, Any], codec: str, bits: int, told: list[str]
) -> None:
    made = plan(HDR, **fields)
    assert (made.spec.codec, made.spec.pixel.bits, codes(made)) == (codec, bits, told)


@pytest.mark.parametrize(
    ("fields", "codec", "alpha"),
    [
        ({"output_format": "webm"}, "vp9", True),
        ({"output_format": "mov"}, "prores", True),
        ({"output_format": "mkv"}, "vp9", True),
        ({"output_format": "gif"}, "gif", True),
        ({"output_format": "webp"}, "webp", True),
        ({"output_format": "png_sequence"}, "png", True),
        ({}, "h264", False),
        ({"codec": "hevc", "output_format": "mov"}, "hevc", False),
        ({"codec": "av1", "output_format": "webm"}, "av1", False),
    ],
    ids=str,
)
def test_alpha_takes_a_codec_that_holds_it_or_is_told_of(fields: dict[str, Any], codec: str, alpha: bool) -> None:
    made = plan(CLEAR, **fields)
    assert (made.spec.codec, made.spec.pixel.alpha) == (codec, alpha)
    assert codes(made) == ([] if alpha else ["ALPHA_DROPPED"])


def test_impossible_pairs_name_the_field() -> None:
    assert wrong_fields(VIDEO, output_format="webm", codec="prores") == {"codec"}
    assert wrong_fields(PICTURE, output_format="jpg", bit_depth=10) == {"bit_depth"}
    assert wrong_fields(PICTURE, codec="h264") == {"codec"}


def test_a_video_has_even_edges_and_a_picture_its_own() -> None:
    odd = replace(VIDEO, raster=Raster(33, 17, YUV420P, BT709))
    made = plan(odd, outscale=1)
    assert (made.target.width, made.target.height, codes(made)) == (32, 16, ["SIZE_ROUNDED"])
    assert (plan(PICTURE, outscale=1).target.width, plan(PICTURE, outscale=1).target.height) == (33, 17)


def test_a_codec_s_own_bounds_are_told() -> None:
    assert wrong_fields(VIDEO, output_dims=[8, 8], codec="hevc") == {"width", "height"}
    assert wrong_fields(VIDEO, output_dims=[48, 32], codec="hevc") == {"width"}
    assert wrong_fields(VIDEO, output_dims=[64, 64], most_pixels=1000) == {"output_dims"}


def test_what_the_source_s_reader_noted_comes_first() -> None:
    noted = replace(VIDEO, notes=(Note("DEINTERLACED", "made whole"),))
    assert codes(plan(noted, output_dims=[64, 48], outscale=2)) == ["DEINTERLACED", "SIZE_OVERRIDDEN"]


def test_a_field_that_means_nothing_to_the_model_is_told() -> None:
    made = plan(VIDEO, color_correction="wavelet", tile=256)
    assert [note.message for note in made.notes] == ["`color_correction` means nothing to bundled, so it was ignored"]


def test_denoise_strength_means_something_only_to_the_model_that_mixes_two_checkpoints() -> None:
    request = parse({"input": {"source": "a", "denoise_strength": 0.3}})
    assert isinstance(request, UpscaleRequest)
    general = catalog.built_in().find("realesr-general-x4v3")
    assert general is not None
    made = {model.name: outline(request, model, VIDEO, "a.mp4", 8192**2) for model in (BUNDLED, general)}
    assert {name: codes(each) for name, each in made.items()} == {"bundled": ["FIELD_IGNORED"], general.name: []}


def test_pixels_that_are_not_square_are_told_where_they_cannot_be_kept() -> None:
    wide = replace(VIDEO, sample_aspect_ratio=Fraction(4, 3))
    assert codes(plan(wide, output_format="gif")) == ["ASPECT_RATIO_LOST"]
    assert codes(plan(wide, output_format="gif", output_dims=[100, 40])) == []
    assert codes(plan(wide)) == []


# ---- Colour -----------------------------------------------------------------------------------------------------

SMALL, LARGE = Size(640, 480), Size(1920, 1080)


def test_yuv_keeps_its_colour() -> None:
    assert target_raster(Raster(64, 48, YUV420P, BT709), LARGE, YUV420P10).colour == BT709


def test_rgb_in_a_video_becomes_bt709() -> None:
    made = target_raster(Raster(64, 48, RGB24, SRGB), LARGE, YUV420P)
    assert (made.matrix, made.colour.range, made.colour.primaries) == (1, 1, 1)


def test_a_picture_of_a_video_is_rgb() -> None:
    assert target_raster(Raster(64, 48, YUV420P, BT709), LARGE, RGB24).pixel == RGB24


def test_an_untagged_matrix_is_written_down_only_where_players_would_guess_another() -> None:
    untagged = Raster(640, 360, YUV420P)
    assert target_raster(untagged, SMALL, YUV420P).colour == Colour()
    assert target_raster(untagged, LARGE, YUV420P).colour.matrix == untagged.matrix == 6
    assert target_raster(untagged, LARGE, YUV420P).matrix == 6


# ---- Names and room ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "clip_bundled_f32_96p_bauto_cnone_s42_2s.mp4"),
        ({"batch_size": 9, "seed": 3, "start": 0.5}, "clip_bundled_f32_96p_b9_cnone_s3_1.48s.mp4"),
        ({"filename": "mine"}, "mine.mp4"),
        ({"filename": "mine.mkv"}, "mine.mp4"),
        ({"filename": "mine.v2", "output_format": "webm"}, "mine.v2.webm"),
        ({"output_format": "png_sequence"}, "clip_bundled_f32_96p_bauto_cnone_s42_2s.zip"),
    ],
    ids=str,
)
def test_the_name_comes_from_the_request_and_the_source_alone(fields: dict[str, Any], name: str) -> None:
    assert plan(VIDEO, **fields).filename == name


def test_the_name_in_the_reply_is_the_one_that_is_delivered() -> None:
    assert plan(VIDEO, filename="  x  ").filename == "x.mp4"
    long = plan(VIDEO, name="é" * 150 + ".mov").filename
    assert len(long.encode()) <= 200 and long.endswith(".mp4")


def test_a_source_without_a_name_still_gives_one() -> None:
    assert plan(VIDEO, name="").filename.startswith("result_bundled")


def test_the_least_room_grows_with_the_frames() -> None:
    one, all_of_them = plan(VIDEO, max_frames=1).least_bytes, plan(VIDEO).least_bytes
    assert 0 < one < 128 * 96
    assert all_of_them == pytest.approx(50 * one, rel=0.02)


def test_layouts_are_the_encoder_s() -> None:
    assert plan(VIDEO, output_format="mov", codec="prores").spec.pixel == PixelFormat("yuv", 10, 2, 1)
    assert plan(CLEAR, output_format="mov").spec.pixel == PixelFormat("yuv", 10, alpha=True)
