"""Whole jobs that make video, by Wan2.1's rules and with plain colours: what tiny networks of noise cannot show."""

import json
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from PIL import Image

from engine.errors import OutOfMemory
from engine.jobs import making
from engine.jobs.families import FAMILIES
from tests.media import samples
from tests.worker.inside import Inside, inside
from tests.worker.painting import ENTRIES, Painter, PaintingFamily, painting_catalog

FAMILY = PaintingFamily()
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    folder = tmp_path_factory.mktemp("shop")
    weights = folder / "models"
    weights.mkdir()
    settings = {
        "models": (*(entry.name for entry in ENTRIES), "bundled"),
        "models_dir": (weights,),
        "catalog": (painting_catalog(weights),),
    }
    with inside(folder, **settings) as made:
        made.worker.desk.families = {**FAMILIES, "wan": FAMILY}
        yield made


def generate(shop: Inside, **fields: Any) -> Fields:
    """A job of the smallest kind unless told otherwise, quick to encode."""
    return shop.ask(**{"action": "generate", "frames": 5, "steps": 2, "preset": "ultrafast", **fields})


def text(shop: Inside, **fields: Any) -> Fields:
    return generate(shop, **{"prompt": "a cat", "size": "64*48", **fields})


def painter(shop: Inside, model: str = "tiny-t2v") -> Painter:
    """The loaded model, which remembers what it was asked for."""
    with shop.worker.desk.generator(shop.worker.desk.any_model(model)) as found:
        assert isinstance(found, Painter)
        return found


def codes(reply: Fields) -> list[str]:
    return [warning["code"] for warning in reply["warnings"]]


def told(reply: Fields) -> dict[str, str]:
    """What is wrong, by field."""
    assert reply["code"] == "INVALID_INPUT", reply
    return {problem["field"]: problem["message"] for problem in reply["problems"]}


def stages(reply: Fields) -> list[str]:
    return [stage["name"] for stage in reply["stages"]]


# ---- Text to video ----------------------------------------------------------------------------------------------


def test_text_becomes_a_tagged_video_of_exactly_the_frames_asked_for(shop: Inside) -> None:
    reply = text(shop, frames=64, seed=7, steps=3)
    output = reply["output"]
    assert (output["frames"], output["fps"], output["duration"]) == (64, "16", 4.0)
    assert (output["width"], output["height"], output["codec"], output["pixel_format"]) == (64, 48, "h264", "yuv420p")
    assert output["filename"] == "t2v_tiny-t2v_bf16_48p_s7_4s.mp4"
    assert stages(reply) == ["preflight", "plan", "load", "process", "upload"]
    assert "source" not in reply and codes(reply) == ["PAINTED"]
    with av.open(str(shop.file(reply))) as file:
        stream = file.streams.video[0]
        pictures = [frame.to_ndarray(format="gray") for frame in file.decode(stream)]
        assert stream.codec_context.colorspace == stream.codec_context.color_primaries == 1  # BT.709
    assert len(pictures) == 64 and pictures[0].mean() < 5 < 250 < pictures[-1].mean()


def test_params_are_what_was_in_effect(shop: Inside) -> None:
    params = text(shop, steps=None, frames=None, duration=0.5)["params"]
    assert params == {
        "action": "generate",
        "task": "t2v",
        "prompt": "a cat",
        "negative_prompt": "unpainted",
        "frames": 8,
        "fps": 16,
        "width": 64,
        "height": 48,
        "steps": 50,
        "guidance": 5.0,
        "shift": 3.0,
        "solver": "unipc",
        "seed": params["seed"],
        "loras": [],
        "model": "tiny-t2v",
        "output_format": "mp4",
        "codec": "h264",
        "crf": 16,
        "preset": "ultrafast",
        "bit_depth": 8,
        "audio": "keep",
        "filename": params["filename"],
        "dry_run": False,
    }
    asked = painter(shop).asked
    assert asked is not None and (asked.seed, asked.negative, asked.frames) == (params["seed"], None, 8)


def test_a_negative_prompt_that_nothing_leads_away_from_is_in_no_params(shop: Inside) -> None:
    reply = text(shop, guidance=1, negative_prompt="rain")
    assert codes(reply) == ["FIELD_IGNORED", "PAINTED"] and "negative_prompt" not in reply["params"]
    assert "negative_prompt" not in text(shop, guidance=1)["params"]
    planned = text(shop, dry_run=True)["params"]
    assert planned["guidance"] == 5 and "negative_prompt" not in planned  # which only the loaded model knows


def test_one_frame_is_a_video_where_one_is_asked_for(shop: Inside) -> None:
    assert text(shop, frames=1, output_format="mp4")["output"]["frames"] == 1
    assert text(shop, frames=1, codec="hevc")["output"]["codec"] == "hevc"


@pytest.mark.parametrize(("fps", "duration"), [(8, 0.625), (23.976, 0.2085)])
def test_another_rate_changes_the_speed_and_is_told(shop: Inside, fps: float, duration: float) -> None:
    reply = text(shop, fps=fps)
    assert reply["output"]["frames"] == 5 and Fraction(reply["output"]["fps"]) == Fraction(str(fps))
    assert reply["output"]["duration"] == pytest.approx(duration, abs=1e-3)
    assert "SPEED_CHANGED" in codes(reply)


def test_a_long_prompt_is_repeated_in_part(shop: Inside) -> None:
    reply = text(shop, prompt="🐈" * 50_000, negative_prompt="кошка " * 8000)
    assert len(reply["params"]["prompt"]) == 4001 and len(json.dumps(reply)) < 200_000
    asked = painter(shop).asked
    assert asked is not None and len(asked.prompt) == 50_000


def test_a_missing_frame_is_our_failure(shop: Inside) -> None:
    reply = text(shop, model="short")
    assert (reply["code"], reply["stage"], reply["message"]) == (
        "INTERNAL", "process", "4 frames were made instead of 5",
    )  # fmt: skip


# ---- Image to video ---------------------------------------------------------------------------------------------


def test_an_image_s_name_and_facts_are_told_and_the_model_s_name_tells_the_size(shop: Inside) -> None:
    source = shop.offer(samples.still(shop.folder / "wide.png", (128, 72)))
    reply = generate(shop, prompt="it moves", image=source, size="64*48")
    assert (reply["model"], reply["source"]["kind"]) == ("tiny-i2v-480p", "image")
    assert reply["output"]["filename"].startswith("wide_tiny-i2v-480p_bf16_32p") and "download" in stages(reply)
    params = generate(shop, image=source, model="tiny-i2v-720p", dry_run=True, steps=None)["params"]
    assert (params["width"], params["height"], params["shift"], params["steps"]) == (1280, 720, 5.0, 40)


def test_of_an_animation_the_first_frame_is_used(shop: Inside) -> None:
    path = shop.folder / "moving.gif"
    frames = [Image.fromarray(samples.picture(index)) for index in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    reply = generate(shop, image=shop.offer(path), size="64*48")
    assert "FIRST_FRAME_USED" in codes(reply) and len(painter(shop, "tiny-i2v-480p").given) == 1


# ---- Video to video ---------------------------------------------------------------------------------------------


def seen(shop: Inside) -> list[int]:
    """The numbers that the frames given to the model carry."""
    return [samples.index_of(x[0].permute(1, 2, 0).mul(255).numpy()) for x in painter(shop).given]


def test_a_video_of_varying_rate_is_taken_by_time(shop: Inside) -> None:
    times = [0, 10, 250, 260, 270]  # thousandths
    path = samples.video(
        shop.folder / "uneven.mkv", frames=5, times=times, durations=[10, 240, 10, 10, 105], time_base=Fraction(1, 1000)
    )
    generate(shop, video=shop.offer(path), frames=5, size="64*48")
    assert seen(shop) == [0, 1, 1, 1, 2]


def test_a_long_video_is_cut_and_a_short_one_is_not_stretched(shop: Inside) -> None:
    long = shop.offer(samples.video(shop.folder / "long.mp4", frames=90, fps=16))
    reply = generate(shop, video=long, frames=None, size="64*48")
    assert reply["output"]["frames"] == 81 and "SOURCE_CUT" in codes(reply)
    assert generate(shop, video=long, frames=85, size="64*48")["output"]["frames"] == 85
    assert "the video has 90" in told(generate(shop, video=long, frames=91))["frames"]
    assert "the video has 90" in told(generate(shop, video=long, frames=None, duration=10))["duration"]


def test_the_source_s_sound_stays_while_the_speed_does(shop: Inside) -> None:
    path = samples.video(shop.folder / "heard.mp4", frames=32, fps=16, languages=("eng",))
    clip = shop.offer(path)
    kept = generate(shop, video=clip, frames=16, size="64*48")
    assert kept["output"]["audio_tracks"] == 1
    with av.open(str(shop.file(kept))) as file:
        stream = file.streams.audio[0]
        assert stream.duration is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(1, abs=0.1)
    faster = generate(shop, video=clip, frames=16, size="64*48", fps=24)
    assert faster["output"]["audio_tracks"] == 0 and "AUDIO_DROPPED" in codes(faster)
    assert generate(shop, video=clip, frames=16, size="64*48", audio="drop")["output"]["audio_tracks"] == 0


# ---- Enlarged in the same job -----------------------------------------------------------------------------------


def test_the_result_is_enlarged_in_the_same_job(shop: Inside) -> None:
    reply = text(shop, seed=3, upscale={"model": "bundled", "strength": 0.5})
    output = reply["output"]
    assert (output["width"], output["height"], output["frames"], output["fps"]) == (128, 96, 5, "16")
    assert output["filename"] == "t2v_tiny-t2v_bf16_96p_s3_0.312s.mp4"
    assert stages(reply) == ["preflight", "plan", "load", "process", "upscale", "upload"]
    assert reply["upscale"]["model"] == "bundled" and reply["upscale"]["plan"]["attempts"] == 1
    assert (reply["params"]["width"], reply["params"]["upscale"]["strength"]) == (64, 0.5)
    assert "prompt" not in reply["params"]["upscale"] and "crf" not in reply["params"]["upscale"]
    percents = [report["progress"] for report in shop.worker.reports]
    assert percents == sorted(percents)
    assert shop.leftovers() == []
    with av.open(str(shop.file(reply))) as file:
        luma = [frame.to_ndarray(format="gray").mean() for frame in file.decode(video=0)]
    assert luma == sorted(luma) and luma[0] < 5 < 250 < luma[-1]


def test_a_video_s_sound_is_kept_through_the_upscale(shop: Inside) -> None:
    clip = shop.offer(samples.video(shop.folder / "heard.mp4", frames=8, fps=16, languages=("eng",)))
    reply = generate(shop, video=clip, frames=None, size="64*48", upscale={"outscale": 1.5})
    assert (reply["output"]["width"], reply["output"]["audio_tracks"]) == (96, 1)


def test_an_upscale_that_cannot_be_is_refused_under_its_own_name(shop: Inside) -> None:
    assert text(shop, upscale={"model": "nonsense"})["field"] == "upscale.model"
    assert text(shop, upscale={"model": "tiny-t2v"})["problems"][0]["field"] == "upscale.model"
    assert told(text(shop, upscale={"output_dims": [32000, 32000]})).keys() == {"upscale.output_dims"}
    assert told(text(shop, output_format="gif", bit_depth=10, upscale={})).keys() == {"bit_depth"}


def test_what_was_made_survives_an_upscale_that_memory_does_not_hold(
    shop: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = weakref.ref(painter(shop))
    there: list[bool] = []

    def hungry(*_: object) -> None:
        there.append(generator() is not None)
        raise torch.OutOfMemoryError("no memory") if len(there) == 1 else OutOfMemory("no plan fits")

    monkeypatch.setattr(making, "enlarge", hungry)
    reply = text(shop, seed=3, upscale={"model": "bundled"})
    assert there == [True, False]  # the second time with the memory of what had made the frames
    assert reply["status"] == "completed" and "upscale" not in reply and "upscale" not in reply["params"]
    assert (reply["output"]["width"], reply["output"]["frames"]) == (64, 5)
    assert codes(reply) == ["UPSCALE_FAILED", "PAINTED"]
    assert ("upscale", "failed") in [(stage["name"], stage["status"]) for stage in reply["stages"]]
    assert reply["params"]["filename"] == reply["output"]["filename"] == "t2v_tiny-t2v_bf16_48p_s3_0.312s.mp4"


def test_a_codec_that_holds_the_enlarged_video_alone_is_its_codec(
    shop: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"size": "32*32", "codec": "hevc", "bit_depth": 10, "upscale": {"model": "bundled"}}
    reply = text(shop, **asked)
    assert (reply["output"]["width"], reply["output"]["codec"], codes(reply)) == (64, "hevc", ["PAINTED"])
    refused = text(shop, **{**asked, "size": "32*16", "upscale": {"model": "bundled", "outscale": 1.5}})
    assert "48 is outside 64" in told(refused)["upscale.width"]

    def hungry(*_: object) -> None:
        raise OutOfMemory("no plan fits")

    monkeypatch.setattr(making, "enlarge", hungry)
    reply = text(shop, **asked)
    assert (reply["output"]["width"], reply["output"]["codec"]) == (32, "h264")
    assert (reply["params"]["codec"], reply["params"]["bit_depth"]) == ("h264", 8)
    assert codes(reply) == ["UPSCALE_FAILED", "CODEC_CHANGED", "PAINTED"]
    assert reply["warnings"][1]["message"] == "hevc cannot hold 32x32, so the result is h264 in 8 bits"
    assert text(shop, **{**asked, "codec": "av1", "output_format": "webm", "size": "16*32"})["output"]["codec"] == "vp9"


# ---- Estimates and services -------------------------------------------------------------------------------------


def test_a_file_that_may_be_missing_is_not_missed(shop: Inside) -> None:
    refused = text(shop, model="absent")
    assert (refused["code"], refused["stage"]) == ("MODEL_NOT_BAKED", "load")
    assert "negative_prompt" not in refused["message"] and "absent-vae" in refused["message"]


def test_info_lists_models_and_loras(shop: Inside) -> None:
    reply = shop.ask(action="info")
    assert {"tiny-t2v", "tiny-i2v-480p"} <= {model["name"] for model in reply["models"]}
    loras = {lora["name"]: lora for lora in reply["loras"]}
    assert loras["fast"]["architectures"] == ["t2v-1.3b"] and loras["fast"]["steps"] == 4
    assert (loras["fast"]["missing"], loras["gone"]["missing"]) == ([], ["gone.safetensors"])


def test_a_model_that_makes_video_is_warmed_and_loaded_first(shop: Inside) -> None:
    shop.ask(action="offload")
    shop.worker.desk.preload()
    assert shop.ask(action="info")["loaded"] == ["tiny-t2v"]
    assert shop.ask(action="warm", model="tiny-i2v-480p")["loaded"] == ["tiny-t2v", "tiny-i2v-480p"]
    assert shop.ask(action="warm", model="wan")["model"] == "tiny-t2v"
    assert shop.ask(action="warm", model="bundled")["model"] == "bundled"


# ---- Refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"output_format": "gif", "bit_depth": 10}, "bit_depth", "8"),
        ({"output_format": "jpg"}, "output_format", "holds one picture and there are 5"),
        ({"size": "32*32", "codec": "hevc"}, "width", "64"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_refused_before_anything_is_loaded(
    shop: Inside, fields: Fields, field: str, sentence: str
) -> None:
    reply = text(shop, **fields)
    assert sentence in told(reply)[field]
    assert reply["stage"] in (None, "preflight", "plan")


def test_a_field_of_another_task_is_ignored_and_said(shop: Inside) -> None:
    reply = text(shop, strength=0.3, fit="crop")
    assert codes(reply) == ["FIELD_IGNORED", "FIELD_IGNORED", "PAINTED"]
    assert "strength" not in reply["params"] and "fit" not in reply["params"]


def test_a_worker_without_a_place_refuses_a_video_at_once_and_sends_a_picture(tmp_path: Path) -> None:
    weights = tmp_path / "models"
    weights.mkdir()
    settings = {"models": ("tiny-t2v",), "models_dir": (weights,), "catalog": (painting_catalog(weights),)}
    with inside(tmp_path, runpod_webhook_get_job="http://127.0.0.1:9/", **settings) as platform:
        platform.worker.desk.families = {**FAMILIES, "wan": FAMILY}
        refused = text(platform)
        assert (refused["code"], refused["stage"]) == ("NO_DESTINATION", "preflight")
        assert text(platform, frames=1)["output"]["base64"]
