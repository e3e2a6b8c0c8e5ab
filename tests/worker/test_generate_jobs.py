"""Whole jobs that make video, with a model of Wan2.1's kind: what they take, make, say and refuse."""

import json
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import Cancelled, OutOfMemory
from engine.jobs import making
from engine.jobs.cancel import CancelToken
from engine.jobs.families import FAMILIES
from engine.jobs.progress import Report
from engine.jobs.run import run
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


def test_a_seed_is_drawn_for_each_job_and_told(shop: Inside) -> None:
    seeds = {text(shop)["params"]["seed"] for _ in range(3)}
    assert len(seeds) == 3 and all(0 <= seed < 2**32 for seed in seeds)


def test_one_frame_is_a_picture_unless_a_video_is_asked_for(shop: Inside) -> None:
    reply = text(shop, frames=1)
    assert (reply["output"]["content_type"], codes(reply)[0]) == ("image/png", "ONE_FRAME")
    with Image.open(shop.file(reply)) as image:
        assert image.size == (64, 48)
    assert text(shop, frames=1, output_format="mp4")["output"]["frames"] == 1
    assert text(shop, frames=1, codec="hevc")["output"]["codec"] == "hevc"


def test_16_by_16_pixels_are_a_video(shop: Inside) -> None:
    assert text(shop, size="16*16")["output"]["width"] == 16


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


def test_loras_say_what_they_are_made_for_and_the_caller_has_the_last_word(shop: Inside) -> None:
    loras = [{"name": "film", "strength": 0.5}, {"name": "Fast.safetensors"}]
    params = text(shop, loras=loras, steps=None)["params"]
    assert (params["steps"], params["guidance"], params["shift"], params["solver"]) == (4, 1.0, 7.0, "euler")
    asked = painter(shop).asked
    assert asked is not None
    assert [(lora.name, lora.strength) for lora in asked.loras] == [("film", 0.5), ("fast", 1.0)]
    assert all(lora.path.is_file() for lora in asked.loras)
    mine = text(shop, loras=loras, steps=9, guidance=3, shift=2, solver="dpm++")["params"]
    assert (mine["steps"], mine["guidance"], mine["shift"], mine["solver"]) == (9, 3, 2, "dpm++")


def test_progress_tells_steps_and_never_goes_back(shop: Inside) -> None:
    text(shop, steps=4)
    reports = shop.worker.reports
    percents = [report["progress"] for report in reports]
    assert percents == sorted(percents) and percents[-1] == 100
    messages = [report["message"] for report in reports]
    assert messages.index("step 4 of 4") < messages.index("frame 1 of 5")
    assert next(report for report in reports if report["message"] == "step 2 of 4")["phase"] == "sample"


def test_a_job_is_cancelled_between_steps(shop: Inside) -> None:
    token = CancelToken()

    def sink(report: Report) -> None:
        if report["message"] == "step 3 of 50":
            token.set()

    job = {"id": "gone", "input": {"prompt": "a cat", "size": "64*48", "steps": 50}}
    with pytest.raises(Cancelled) as caught:
        run(job, shop.worker.desk, token, sink)
    assert caught.value.stage == "process" and shop.leftovers() == []
    assert text(shop)["status"] == "completed"


def test_a_missing_frame_is_our_failure(shop: Inside) -> None:
    reply = text(shop, model="short")
    assert (reply["code"], reply["stage"], reply["message"]) == (
        "INTERNAL", "process", "4 frames were made instead of 5",
    )  # fmt: skip


# ---- Image to video ---------------------------------------------------------------------------------------------


def test_an_image_s_aspect_is_kept_at_the_area(shop: Inside) -> None:
    source = shop.offer(samples.still(shop.folder / "wide.png", (128, 72)))
    reply = generate(shop, prompt="it moves", image=source)
    assert reply["model"] == "tiny-i2v-480p" and reply["params"]["steps"] == 2
    assert (reply["output"]["width"], reply["output"]["height"]) == (832, 464)
    assert reply["source"]["kind"] == "image" and reply["output"]["filename"].startswith("wide_tiny-i2v-480p_bf16_464p")
    assert "download" in stages(reply) and reply["params"]["shift"] == 3.0
    params = generate(shop, image=source, model="tiny-i2v-720p", dry_run=True, steps=None)["params"]
    assert (params["width"], params["height"], params["shift"], params["steps"]) == (1280, 720, 5.0, 40)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_an_image_is_fitted_to_exactly_the_size(shop: Inside, fit: str) -> None:
    source = shop.offer(samples.still(shop.folder / "wide.png", (128, 72)))
    reply = generate(shop, image=source, size="64*64", fit=fit)
    assert (reply["output"]["width"], reply["output"]["height"]) == (64, 64)
    asked = painter(shop, "tiny-i2v-480p").asked
    assert asked is not None and asked.fit == fit


def test_a_photograph_comes_upright_and_a_see_through_picture_with_its_alpha(shop: Inside) -> None:
    path = shop.folder / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(samples.picture(1, 80, 48)).save(path, exif=exif)
    reply = generate(shop, image=shop.offer(path), size="64*64")
    assert (reply["source"]["width"], reply["source"]["height"]) == (48, 80)
    assert (reply["output"]["width"], reply["output"]["height"]) == (48, 80)
    clear = shop.folder / "clear.png"
    Image.fromarray(np.full((48, 48, 4), 128, np.uint8)).save(clear)
    assert generate(shop, image=shop.offer(clear), size="64*64")["output"]["frames"] == 5
    given = painter(shop, "tiny-i2v-480p").given
    assert [tuple(x.shape) for x in given] == [(1, 4, 48, 48)]


def test_one_pixel_is_an_image(shop: Inside) -> None:
    source = shop.offer(samples.still(shop.folder / "dot.png", (1, 1)))
    reply = generate(shop, image=source, size="32*32")
    assert (reply["output"]["width"], reply["output"]["height"]) == (32, 32)


def test_an_image_too_narrow_to_keep_its_aspect_is_refused_with_a_way_out(shop: Inside) -> None:
    source = shop.offer(samples.still(shop.folder / "line.png", (3000, 3)))
    assert "`fit` crop or pad" in told(generate(shop, image=source))["image"]
    assert generate(shop, image=source, fit="pad", size="64*48")["status"] == "completed"


def test_of_an_animation_the_first_frame_is_used(shop: Inside) -> None:
    path = shop.folder / "moving.gif"
    frames = [Image.fromarray(samples.picture(index)) for index in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    reply = generate(shop, image=shop.offer(path), size="64*48")
    assert "FIRST_FRAME_USED" in codes(reply) and len(painter(shop, "tiny-i2v-480p").given) == 1


def test_what_is_no_good_image_is_told_as_ever(shop: Inside) -> None:
    path = samples.still(shop.folder / "torn.png", (64, 48))
    path.write_bytes(path.read_bytes()[:-40])
    assert generate(shop, image=shop.offer(path))["code"] == "SOURCE_CORRUPT"
    clip = shop.offer(samples.video(shop.folder / "clip.mp4"))
    assert "give it as `video`" in told(generate(shop, image=clip))["image"]
    page = shop.folder / "page.png"
    page.write_text("<!DOCTYPE html>")
    assert generate(shop, image=shop.offer(page))["code"] == "SOURCE_UNSUPPORTED"


# ---- Video to video ---------------------------------------------------------------------------------------------


def seen(shop: Inside) -> list[int]:
    """The numbers that the frames given to the model carry."""
    return [samples.index_of(x[0].permute(1, 2, 0).mul(255).numpy()) for x in painter(shop).given]


def test_a_video_is_taken_at_the_model_s_rate(shop: Inside) -> None:
    clip = shop.offer(samples.video(shop.folder / "fast.mp4", frames=12, fps=32))
    reply = generate(shop, video=clip, frames=None, prompt="snow", size="64*48", strength=0.4)
    assert (reply["params"]["task"], reply["params"]["strength"], reply["output"]["frames"]) == ("v2v", 0.4, 6)
    assert seen(shop) == [0, 2, 4, 6, 8, 10]
    slow = shop.offer(samples.video(shop.folder / "slow.mp4", frames=3, fps=8))
    assert generate(shop, video=slow, frames=None, size="64*48")["output"]["frames"] == 6
    assert seen(shop) == [0, 0, 1, 1, 2, 2]


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


def test_a_video_of_one_frame_is_enough(shop: Inside) -> None:
    clip = shop.offer(samples.video(shop.folder / "one.mp4", frames=1))
    reply = generate(shop, video=clip, frames=None, size="64*48", output_format="mp4")
    assert reply["output"]["frames"] == 1
    assert generate(shop, video=clip, frames=None, size="64*48")["output"]["content_type"] == "image/png"


def test_an_image_is_no_video(shop: Inside) -> None:
    source = shop.offer(samples.still(shop.folder / "wide.png", (128, 72)))
    assert "give it as `image`" in told(generate(shop, video=source))["video"]


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


@pytest.mark.parametrize("strength", [0, 1])
def test_no_and_all_of_the_schedule_are_strengths(shop: Inside, strength: int) -> None:
    clip = shop.offer(samples.video(shop.folder / "clip.mp4", frames=3))
    assert generate(shop, video=clip, frames=None, size="64*48", strength=strength)["params"]["strength"] == strength


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


# ---- Estimates and services -------------------------------------------------------------------------------------


def test_an_estimate_needs_neither_weights_nor_a_place(shop: Inside) -> None:
    reply = text(shop, model="absent", frames=10, dry_run=True, upscale={"model": "bundled"})
    assert (reply["status"], reply["action"], stages(reply)) == (
        "completed", "estimate", ["preflight", "plan", "estimate"],
    )  # fmt: skip
    estimate = reply["estimate"]
    assert (estimate["frames_in"], estimate["frames_out"], estimate["width"], estimate["height"]) == (0, 10, 128, 96)
    assert estimate["peak_mb"] >= 5 and estimate["seconds"] >= 5
    assert reply["plan"]["attempts"] == 0 and reply["upscale"]["model"] == "bundled"
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
        ({"model": "tiny-i2v-480p"}, "model", "cannot do text to video"),
        ({"model": "bundled"}, "model", "cannot do text to video"),
        ({"loras": [{"name": "fasd"}]}, "loras", "did you mean `fast`?"),
        ({"loras": [{"name": "nothing like it"}]}, "loras", "for this model there are `fast`, `film` and `gone`"),
        ({"loras": [{"name": "moving"}]}, "loras", "is made for i2v-14b-480p, not for `tiny-t2v`"),
        ({"output_format": "gif", "bit_depth": 10}, "bit_depth", "8"),
        ({"output_format": "jpg"}, "output_format", "holds one picture and there are 5"),
        ({"size": "32*32", "codec": "hevc"}, "width", "64"),
        ({"prompt": " "}, "prompt", "is required"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    shop: Inside, fields: Fields, field: str, sentence: str
) -> None:
    reply = text(shop, **fields)
    assert sentence in told(reply)[field]
    assert reply["stage"] in (None, "preflight", "plan")


def test_a_text_model_is_not_asked_for_an_image_s_video(shop: Inside) -> None:
    shop.web.seen.clear()
    reply = generate(shop, image=shop.offer(samples.still(shop.folder / "a.png", (64, 48))), model="tiny-t2v")
    assert "for that this worker offers `tiny-i2v-480p`" in told(reply)["model"] and shop.web.seen == []


def test_a_lora_that_is_not_baked_is_told(shop: Inside) -> None:
    reply = text(shop, loras=[{"name": "gone"}])
    assert (reply["code"], reply["field"], reply["stage"]) == ("MODEL_NOT_BAKED", "loras", "preflight")
    assert "`gone`" in reply["message"]


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
