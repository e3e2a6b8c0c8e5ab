"""Whole jobs on a worker inside the test: every action, every format, every destination, and what the reply says."""

import asyncio
import json
import logging
import urllib.request
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from engine.jobs.progress import Report
from engine.pipelines.frames import resize
from engine.storage import s3
from tests.media import samples
from tests.storage.s3_server import S3Server, contents, s3_serving
from tests.worker.inside import Inside, inside, strict_json, tiny

Fields = dict[str, Any]
SECRET = "wJalrXUtnFEMI-hunter2"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A worker in local mode."""
    with inside(tmp_path_factory.mktemp("shop")) as made:
        yield made


@pytest.fixture(scope="module")
def films() -> Iterator[S3Server]:
    with s3_serving("films") as server:
        s3.client.cache_clear()
        yield server


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, films: S3Server) -> Iterator[Inside]:
    """A worker of an endpoint for which nobody configured a bucket."""
    folder = tmp_path_factory.mktemp("platform")
    with inside(folder, runpod_webhook_get_job="http://127.0.0.1:9/", allowed_hosts={films.host}) as made:
        yield made


def clip(shop: Inside, name: str = "clip.mp4", frames: int = 4, **options: Any) -> str:
    return shop.offer(samples.video(shop.folder / name, frames=frames, **options))


def picture(shop: Inside, name: str = "still.png", **options: Any) -> str:
    return shop.offer(samples.still(shop.folder / name, **options))


def s3_config(films: S3Server) -> dict[str, str]:
    return {"accessId": "key", "accessSecret": SECRET, "bucketName": "films", "endpointUrl": films.url("")}


def stages(reply: dict[str, Any]) -> list[str]:
    return [stage["name"] for stage in reply["stages"]]


# ---- Actions ----------------------------------------------------------------------------------------------------


def test_info_says_what_the_worker_is_and_offers(shop: Inside) -> None:
    reply = shop.ask(action="info")
    assert (reply["status"], reply["action"]) == ("completed", "info")
    assert [model["name"] for model in reply["models"]] == ["bundled"]
    assert reply["models"][0]["scale"] == 2 and reply["models"][0]["missing"] == []
    assert reply["gpu"]["device"] == "cpu" and reply["gpu"]["ram_free_mb"] > 0
    assert reply["limits"]["input_pixels"] == 8192 * 8192
    assert reply["formats"]["webm"] == ["vp9", "av1"]
    assert reply["codecs"]["hevc"] == [8, 10]
    assert str(shop.folder) not in json.dumps(reply)


@pytest.mark.parametrize("how", [{"action": "estimate"}, {"dry_run": True}])
def test_an_estimate_plans_and_makes_nothing(shop: Inside, how: Fields) -> None:
    before = sorted(shop.folder.glob("outputs/**/*"))
    reply = shop.upscale(source=clip(shop, frames=12), outscale=3, output_format="mkv", codec="hevc", **how)
    assert (reply["status"], reply["action"]) == ("completed", "estimate")
    assert stages(reply) == ["preflight", "download", "probe", "estimate"]
    estimate = reply["estimate"]
    assert (estimate["frames_in"], estimate["frames_out"]) == (12, 12)
    assert (estimate["width"], estimate["height"]) == (192, 144)
    assert (estimate["container"], estimate["codec"]) == ("mkv", "hevc")
    assert 0 <= estimate["peak_mb"] < 1000
    assert 0 <= estimate["seconds"] < 60
    assert reply["plan"]["attempts"] == 0
    assert "output" not in reply and sorted(shop.folder.glob("outputs/**/*")) == before
    assert shop.leftovers() == []


def test_an_estimate_grows_with_its_frames_and_their_size(shop: Inside) -> None:
    def estimate(**options: Any) -> Fields:
        reply = shop.upscale(source=clip(shop, "long.mp4", **options), dry_run=True)
        return dict(reply["estimate"])

    short, long = estimate(frames=2, size=(320, 240)), estimate(frames=80, size=(320, 240))
    assert long["seconds"] > 10 * short["seconds"]
    assert long["peak_mb"] == short["peak_mb"] < estimate(frames=2, size=(960, 720))["peak_mb"]


def test_an_estimate_needs_no_destination(platform: Inside) -> None:
    assert platform.upscale(source=clip(platform), dry_run=True)["status"] == "completed"


def test_warm_loads_offload_drops_and_a_job_loads_again(shop: Inside) -> None:
    warm = shop.ask(action="warm")
    assert (warm["model"], warm["loaded"]) == ("bundled", ["bundled"]) and warm["seconds"] > 0
    gone = shop.ask(action="offload")
    assert gone["offloaded"] == ["bundled"] and gone["freed_mb"] >= 0
    assert shop.ask(action="info")["loaded"] == []
    assert shop.ask(action="offload")["offloaded"] == []
    assert shop.ask(**tiny(shop.folder))["status"] == "completed"
    assert shop.ask(action="info")["loaded"] == ["bundled"]


@pytest.mark.parametrize("fields", [{}, {"model": "wan"}, {"model": "wan2.1_t2v_1.3B_bf16"}])
def test_a_worker_without_a_model_that_makes_video_says_what_it_offers(shop: Inside, fields: Fields) -> None:
    reply = shop.ask(prompt="a cat", **fields)
    assert (reply["code"], reply["field"], reply["retryable"]) == ("MODEL_NOT_BAKED", "model", False)
    assert reply["message"].endswith("this worker offers `bundled`")


def test_generate_is_validated_first(shop: Inside) -> None:
    reply = shop.ask(prompt="a cat", steps=0, guidance="much")
    assert reply["code"] == "INVALID_INPUT"
    assert {problem["field"] for problem in reply["problems"]} == {"steps", "guidance"}


@pytest.mark.parametrize(("model", "code"), [("nonsense", "UNKNOWN_MODEL"), ("RealESRGAN_x4plus", "MODEL_NOT_BAKED")])
def test_a_model_that_is_not_offered_is_refused_before_anything_is_fetched(shop: Inside, model: str, code: str) -> None:
    source = clip(shop)
    shop.web.seen.clear()
    reply = shop.upscale(source=source, model=model)
    assert (reply["code"], reply["stage"]) == (code, "preflight")
    assert "bundled" in reply["message"] + (reply["hint"] or "")
    assert shop.web.seen == []


def test_an_input_wrapped_twice_is_unwrapped(shop: Inside) -> None:
    assert shop.run({"id": "a", "input": {"input": {"action": "info"}}})["action"] == "info"
    assert shop.run({"id": "a", "input": {"input": {}}})["message"].startswith("input: is empty")


# ---- Formats ----------------------------------------------------------------------------------------------------

VIDEOS = [
    ({"output_format": "mp4"}, "h264", "yuv420p", 1),
    ({"output_format": "mp4", "codec": "hevc"}, "hevc", "yuv420p", 1),
    ({"output_format": "mp4", "codec": "av1"}, "av1", "yuv420p", 1),
    ({"output_format": "mp4", "codec": "vp9"}, "vp9", "yuv420p", 1),
    ({"output_format": "mp4", "bit_depth": 10}, "h264", "yuv420p10le", 1),
    ({"output_format": "mp4", "codec": "hevc", "bit_depth": 10}, "hevc", "yuv420p10le", 1),
    ({"output_format": "mp4", "codec": "av1", "bit_depth": 10}, "av1", "yuv420p10le", 1),
    ({"output_format": "mov"}, "h264", "yuv420p", 1),
    ({"output_format": "mov", "codec": "hevc"}, "hevc", "yuv420p", 1),
    ({"output_format": "mov", "codec": "prores"}, "prores", "yuv422p10le", 1),
    ({"output_format": "mkv"}, "h264", "yuv420p", 1),
    ({"output_format": "mkv", "codec": "hevc"}, "hevc", "yuv420p", 1),
    ({"output_format": "mkv", "codec": "av1"}, "av1", "yuv420p", 1),
    ({"output_format": "mkv", "codec": "vp9"}, "vp9", "yuv420p", 1),
    ({"output_format": "mkv", "codec": "prores"}, "prores", "yuv422p10le", 1),
    ({"output_format": "webm"}, "vp9", "yuv420p", 1),
    ({"output_format": "webm", "codec": "av1"}, "av1", "yuv420p", 1),
    ({"output_format": "gif"}, "gif", "rgb24", 0),
    ({"output_format": "webp"}, "webp", "rgb24", 0),
    ({"output_format": "png_sequence"}, "png", "rgb24", 0),
]


def name_of(value: Any) -> str | None:
    return "-".join(map(str, value.values())) if isinstance(value, dict) else None


@pytest.mark.parametrize(("fields", "codec", "pixel", "tracks"), VIDEOS, ids=name_of)
def test_a_video_becomes_every_format(shop: Inside, fields: Fields, codec: str, pixel: str, tracks: int) -> None:
    reply = shop.upscale(source=clip(shop, "sound.mp4", languages=("eng",)), crf=30, **fields)
    made = shop.file(reply)
    output = reply["output"]
    assert (output["codec"], output["frames"], output["audio_tracks"]) == (codec, 4, tracks)
    assert (output["width"], output["height"], output["duration"]) == (128, 96, pytest.approx(0.16, abs=0.02))
    if codec != "gif":
        assert output["pixel_format"] == pixel
    assert made.stat().st_size == output["bytes"]
    kept = ["AUDIO_TRANSCODED"] if fields["output_format"] == "webm" else []  # AAC became Opus
    assert [warning["code"] for warning in reply["warnings"]] == (kept if tracks else ["AUDIO_DROPPED"])


@pytest.mark.parametrize(
    ("format", "kind"), [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp"), (None, "image/png")]
)
def test_a_picture_becomes_every_picture(shop: Inside, format: str | None, kind: str) -> None:
    reply = shop.upscale(source=picture(shop), output_format=format)
    with Image.open(shop.file(reply)) as made:
        assert made.size == (128, 96)
    assert (reply["output"]["content_type"], reply["output"]["frames"]) == (kind, 1)


def test_a_deep_picture_keeps_its_depth_when_asked(shop: Inside) -> None:
    reply = shop.upscale(source=picture(shop), bit_depth=10)
    assert (reply["output"]["pixel_format"], reply["params"]["bit_depth"]) == ("rgb48le", 16)


@pytest.mark.parametrize("format", ["mp4", "gif", "png_sequence"])
def test_a_picture_becomes_a_video_of_one_frame(shop: Inside, format: str) -> None:
    reply = shop.upscale(source=picture(shop), output_format=format)
    assert reply["output"]["frames"] == 1, reply


def test_a_still_cannot_hold_a_video(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop), output_format="png")
    assert (reply["code"], reply["field"]) == ("INVALID_INPUT", "output_format")
    assert "png_sequence" in reply["message"]


def test_a_sequence_holds_a_picture_for_every_frame(shop: Inside) -> None:
    made = shop.file(shop.upscale(source=clip(shop, frames=4, size=(64, 48)), output_format="png_sequence"))
    with zipfile.ZipFile(made) as archive:
        indices = []
        for name in sorted(archive.namelist()):
            with archive.open(name) as file, Image.open(file) as image:
                indices.append(samples.index_of(np.asarray(image)))
    assert indices == [0, 1, 2, 3]


# ---- What of the source, and how large --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ({"start": 0.2}, range(5, 12)),
        ({"end": 0.2}, range(5)),
        ({"start": 0.12, "end": 0.32}, range(3, 8)),
        ({"skip_frames": 4}, range(4, 12)),
        ({"max_frames": 3}, range(3)),
        ({"skip_first_frames": 2, "load_cap": 3}, range(2, 5)),
    ],
    ids=str,
)
def test_a_clip_is_exact_to_the_frame(shop: Inside, part: Fields, kept: range) -> None:
    reply = shop.upscale(source=clip(shop, "twelve.mkv", frames=12), crf=10, **part)
    with av.open(str(shop.file(reply))) as container:
        frames = list(container.decode(video=0))
    assert [samples.index_of(frame.to_ndarray(format="gray")) for frame in frames] == list(kept)
    assert frames[0].pts == 0
    assert reply["output"]["duration"] == pytest.approx(len(kept) / 25, abs=0.001)


def test_a_clip_beyond_the_end_is_refused(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop), start=100)
    assert (reply["code"], reply["field"]) == ("INVALID_INPUT", "start")
    assert "leaves nothing of a source of 0.16 s and 4 frames" in reply["message"]


def test_audio_is_dropped_when_asked(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop, "sound.mp4", languages=("eng",)), audio="drop")
    assert (reply["output"]["audio_tracks"], reply["warnings"]) == (0, [])


@pytest.mark.parametrize(("format", "tracks"), [("mp4", 0), ("mov", 0), ("mkv", 1), ("webm", 1)])
def test_sound_that_ends_before_the_clip_is_told(shop: Inside, format: str, tracks: int) -> None:
    source = samples.start_offset(shop.folder / "late.mp4", frames=4, languages=("eng",))  # the sound is over by then
    reply = shop.upscale(source=shop.offer(source), output_format=format, max_frames=2)
    assert reply["output"]["audio_tracks"] == tracks, reply
    assert "AUDIO_SILENT" in [warning["code"] for warning in reply["warnings"]]


def test_output_dims_are_exact_and_give_square_pixels(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop, "wide.mp4", sar=Fraction(4, 3)), output_dims=[100, 40])
    assert (reply["output"]["width"], reply["output"]["height"]) == (100, 40)
    with av.open(str(shop.file(reply))) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1)


def test_what_the_size_came_from_is_told(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop), output_dims=[100, 40], resolution=720)
    assert [warning["code"] for warning in reply["warnings"]] == ["SIZE_OVERRIDDEN"]


def test_no_strength_is_the_plain_resize(shop: Inside) -> None:
    source = samples.still(shop.folder / "plain.png", (40, 30))
    made = shop.file(shop.upscale(source=shop.offer(source), strength=0))
    before = torch.from_numpy(np.array(Image.open(source))).permute(2, 0, 1)[None] / 255
    plain = resize(before, 60, 80)[0].permute(1, 2, 0).clamp(0, 1) * 255
    after = np.asarray(Image.open(made)).astype(float)
    assert np.abs(after - plain.numpy()).max() <= 1
    restored = shop.file(shop.upscale(id="job-2", source=shop.offer(source)))
    assert np.abs(np.asarray(Image.open(restored)).astype(float) - after).max() > 5


# ---- Destinations -----------------------------------------------------------------------------------------------


def test_an_image_goes_inline_when_asked(shop: Inside) -> None:
    reply = shop.upscale(source=picture(shop), destination="inline")
    assert reply["output"]["url"] is None and "result_url" not in reply
    with Image.open(shop.file(reply)) as made:
        assert made.size == (128, 96)


def test_an_image_without_a_destination_goes_inline_on_the_platform(platform: Inside) -> None:
    reply = platform.upscale(source=picture(platform))
    assert len(reply["output"]["base64"]) > 1000
    assert platform.leftovers() == []


@pytest.mark.parametrize("fields", [{"output_format": "mp4"}, {"media": "video"}], ids=str)
def test_a_video_without_a_destination_is_refused_before_anything_is_fetched(platform: Inside, fields: Fields) -> None:
    source = clip(platform)
    platform.web.seen.clear()
    reply = platform.upscale(source=source, **fields)
    assert (reply["code"], reply["stage"], reply["field"]) == ("NO_DESTINATION", "preflight", "destination")
    assert "BUCKET_URL" in reply["hint"] and reply["retryable"] is False
    assert platform.web.seen == []


def test_what_turns_out_to_be_a_video_is_refused_before_the_model_runs(platform: Inside) -> None:
    reply = platform.upscale(source=clip(platform))
    assert (reply["code"], reply["stage"]) == ("NO_DESTINATION", "probe")
    assert {report["stage"] for report in platform.worker.reports} == {"preflight", "download", "probe"}
    assert platform.leftovers() == []


def test_the_job_s_own_bucket_gets_result_and_record(platform: Inside, films: S3Server) -> None:
    job = {
        "id": "job-7",
        "input": {"source": clip(platform), "preset": "ultrafast"},
        "s3Config": s3_config(films),
    }
    reply = platform.run(job)
    output = reply["output"]
    assert (output["bucket"], output["key"]) == ("films", f"job-7/{output['filename']}")
    assert reply["result_url"] == reply["output_url"] == output["url"]
    assert output["expires_at"].endswith("Z")
    lying = contents(films, "films")
    assert set(lying) == {output["key"], "job-7/result.json"}
    assert lying[output["key"]]["ContentType"] == "video/mp4"
    record = json.loads(lying["job-7/result.json"]["Body"].read())
    assert record == reply
    with urllib.request.urlopen(output["url"]) as answer:
        body = answer.read()
    assert len(body) == output["bytes"]
    platform.run(job)
    assert set(contents(films, "films")) == set(lying)


def test_a_refused_bucket_is_told_before_anything_is_fetched(platform: Inside, films: S3Server) -> None:
    source = clip(platform)
    platform.web.seen.clear()
    config = {**s3_config(films), "bucketName": "others"}
    reply = platform.run({"id": "a", "input": {"source": source}, "s3Config": config})
    assert (reply["code"], reply["stage"]) == ("UPLOAD_FAILED", "preflight")
    assert "others" in reply["message"] and SECRET not in json.dumps(reply)
    assert platform.web.seen == []


def test_no_secret_is_told_or_logged(platform: Inside, films: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="engine")
    caplog.set_level(logging.INFO)
    source = f"{clip(platform)}?X-Amz-Credential=AKIAFIRST&X-Amz-Signature=cafe01"
    put = platform.web.script("/put", lambda handler, seen: handler.reply(200) if handler.body(seen) else None)
    jobs: list[Fields] = [
        {"input": {"source": source}, "s3Config": s3_config(films)},
        {"input": {"source": source, "destination": {"put_url": f"{put}?X-Amz-Signature=cafe02"}}},
        {"input": {"source": source, "colour": 1}, "s3Config": s3_config(films)},
        {"input": {"source": source.replace("clip", "lost")}, "s3Config": s3_config(films)},
        {"input": {"source": source}, "s3Config": {**s3_config(films), "accessId": 5}},
    ]
    codes = []
    for number, job in enumerate(jobs):
        reply = platform.run({"id": f"secret-{number}", **job})
        codes.append(reply.get("code", "completed"))
        told = json.dumps(reply)
        for word in (SECRET, "AKIAFIRST", "cafe01", "cafe02"):
            assert word not in told
    assert codes == ["completed", "completed", "INVALID_INPUT", "SOURCE_NOT_FOUND", "INVALID_INPUT"]
    for word in (SECRET, "AKIAFIRST", "cafe01", "cafe02", "X-Amz-Signature"):
        assert word not in caplog.text


# ---- Stopping ---------------------------------------------------------------------------------------------------


@pytest.fixture
def on_report(shop: Inside) -> Iterator[Any]:
    """Hand in what is to happen at every report of the next job."""

    def install(act: Any) -> None:
        shop.worker.on_report = act

    yield install
    shop.worker.on_report = lambda report: None


def test_a_job_stops_itself_at_its_own_limit(shop: Inside, on_report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def pass_time(report: Report) -> None:
        nonlocal now
        now += 10.0 if report.get("frames_done") == 2 else 0.0

    on_report(pass_time)
    monkeypatch.setattr("engine.jobs.cancel.time", SimpleNamespace(monotonic=lambda: now))
    reply = shop.upscale(id="slow", source=clip(shop, frames=12), timeout_s=5)
    assert (reply["code"], reply["stage"], reply["retryable"]) == ("TIMED_OUT", "process", True)
    assert reply["field"] == "timeout_s" and "timeout_s = 5" in reply["message"]
    assert shop.worker.reports[-1]["frames_done"] == 2
    assert shop.leftovers() == [] and not (shop.folder / "outputs" / "slow").exists()
    monkeypatch.undo()
    assert shop.ask(**tiny(shop.folder))["status"] == "completed"


def test_a_cancelled_job_has_let_go_when_its_handler_ends(shop: Inside, on_report: Any) -> None:
    source = clip(shop, frames=12)

    async def cancelled_in_the_middle() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            shop.worker.handle({"id": "gone", "input": {"source": source, "preset": "ultrafast"}})
        )

        def cancel(report: Report) -> None:
            if report.get("frames_done") == 2:
                asyncio.run_coroutine_threadsafe(stop(task), loop).result()

        on_report(cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert shop.leftovers() == []

    async def stop(task: "asyncio.Task[Any]") -> None:
        """Cancel, and come back when the handler has heard of it."""
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)

    shop.worker.reports.clear()
    asyncio.run(cancelled_in_the_middle())
    assert shop.worker.reports[-1]["frames_done"] == 2
    assert not (shop.folder / "outputs" / "gone").exists()
    assert shop.ask(**tiny(shop.folder))["status"] == "completed"


# ---- The reply --------------------------------------------------------------------------------------------------


def test_params_hold_every_effective_value(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop), outscale=1.5, seed=7, output_format="webm")
    params = reply["params"]
    assert params["seed"] == 7 and params["outscale"] == 1.5 and params["preset"] == "ultrafast"
    assert (params["model"], params["output_format"], params["codec"], params["bit_depth"]) == (
        "bundled",
        "webm",
        "vp9",
        8,
    )
    assert params["crf"] == 16 and params["tile"] == "auto" and params["audio"] == "keep"
    assert params["filename"] == reply["output"]["filename"]
    assert "source" not in params and "destination" not in params


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"output_format": "webm", "codec": "h264"}, "codec"), ({"bit_depth": 10, "codec": "vp9"}, "bit_depth")],
)
def test_an_impossible_output_is_refused_before_the_source_is_fetched(
    shop: Inside, fields: dict[str, Any], named: str
) -> None:
    reply = shop.upscale(source="https://example.com/never-asked-for.mp4", **fields)
    assert (reply["code"], reply["field"], reply["stage"]) == ("INVALID_INPUT", named, "preflight")


def test_params_tell_what_hdr_made_of_the_defaults(shop: Inside) -> None:
    source = shop.offer(samples.hdr10(shop.folder / "hdr.mkv", frames=2))
    params = shop.upscale(source=source)["params"]
    assert (params["codec"], params["bit_depth"]) == ("hevc", 10)


def test_the_default_name_tells_how_the_file_was_made(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop, "My holiday.mov", frames=12), batch_size=5, seed=9, max_frames=10)
    assert reply["output"]["filename"] == "My holiday_bundled_f32_96p_b5_cnone_s9_0.4s.mp4"


@pytest.mark.parametrize(
    ("wish", "name"), [("a.mp4", "a.mp4"), ("a", "a.mp4"), ("a.webm", "a.mp4"), ("v1.2", "v1.2.mp4")]
)
def test_a_wished_name_gets_the_ending_of_its_container(shop: Inside, wish: str, name: str) -> None:
    assert shop.upscale(source=clip(shop), filename=wish)["output"]["filename"] == name


def test_the_reply_has_the_contract_s_parts_and_is_small(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop))
    assert {
        "status",
        "action",
        "model",
        "output",
        "source",
        "params",
        "plan",
        "stages",
        "metrics",
        "warnings",
        "worker",
        "result_url",
        "output_url",
    } <= set(reply)
    assert stages(reply) == ["preflight", "download", "probe", "load", "process", "upload"]
    assert all(stage["status"] == "success" and stage["duration"] >= 0 for stage in reply["stages"])
    assert reply["metrics"]["frames_per_second"] > 0 and reply["metrics"]["peak_rss_mb"] > 50
    assert reply["source"]["fps"] == reply["output"]["fps"] == "25"
    assert strict_json(reply) == reply and len(json.dumps(reply)) < 20_000


def test_only_the_first_job_is_cold(tmp_path: Path) -> None:
    with inside(tmp_path) as fresh:
        told = [fresh.ask(**tiny(tmp_path))["metrics"]["cold"] for _ in range(2)]
    assert told == [True, False]


def test_progress_never_goes_back_and_ends_complete(shop: Inside) -> None:
    shop.upscale(source=clip(shop, frames=12))
    percents = [report["progress"] for report in shop.worker.reports]
    assert percents == sorted(percents)
    assert shop.worker.reports[-1]["stage"] == "upload" and percents[-1] == 100
