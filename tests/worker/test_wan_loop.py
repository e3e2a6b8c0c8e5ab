"""Wan2.1 jobs of a worker process under the fake platform, and what stops a job or sets it back on its way."""

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

from engine.errors import Cancelled
from engine.jobs.cancel import CancelToken
from engine.jobs.progress import Report
from engine.jobs.run import run
from engine.pipelines.wan.networks import Networks
from tests.media import samples
from tests.worker.conftest import Bench, Job, until
from tests.worker.inside import Inside
from tests.worker.test_seedvr2_jobs import pictures, seconds
from tests.worker.tiny import I2V, T2V, codes, environment, generate, offering

SMALL = {"prompt": "a cat runs", "size": "32*32", "frames": 9, "steps": 2, "preset": "ultrafast"}
PHASES = {"text": 0, "image": 1, "encode": 2, "sample": 3, "decode": 4}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Inside]:
    with offering(tmp_path_factory.mktemp("shop"), checkpoints, (T2V, I2V)) as made:
        yield made


def still(shop: Inside, name: str = "still.png", size: tuple[int, int] = (48, 32)) -> str:
    return shop.offer(samples.still(shop.folder / name, size))


# ---- A worker process -------------------------------------------------------------------------------------------


def clear(path: Path) -> str:
    """A picture whose left half is see-through."""
    alpha = np.repeat(np.uint8([[[0], [255]]]), 24, axis=1).repeat(32, axis=0)
    Image.fromarray(np.dstack([samples.picture(1, 48, 32), alpha])).save(path)
    return str(path)


def turned(path: Path) -> str:
    """A photograph that lies on its side and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(samples.picture(1, 96, 48)).save(path, exif=exif)
    return str(path)


def result(bench: Bench, job: str) -> tuple[Job, Path]:
    done = bench.done(job)
    assert done["status"] == "COMPLETED", done
    return done["output"], Path(done["output"]["output"]["url"].removeprefix("file://"))


def message_of(bench: Bench, job: str) -> str:
    """What the job's latest report says."""
    reports = bench.platform.jobs[job].progress
    return str(reports[-1]["message"]) if reports else ""


def test_jobs_of_every_task_come_back_and_one_cancelled_among_its_steps_leaves_the_worker_to_the_next(
    bench: Bench, checkpoints: Path
) -> None:
    bench.start(**environment(checkpoints, f"{T2V},{I2V}"))
    clip = bench.clip("clip.mp4", frames=30, fps=30, size=(32, 32), languages=("eng",))
    jobs = {
        "text": bench.submit(**SMALL),
        "clear": bench.submit(**SMALL, image=clear(bench.volume / "clear.png")),
        "turned": bench.submit(**SMALL, image=turned(bench.volume / "turned.jpg")),
        "video": bench.submit(**{**SMALL, "frames": None}, video=clip, strength=0.5),
        "long": bench.submit(
            **{**SMALL, "size": "192*192", "frames": 81, "steps": 100}, image=turned(bench.volume / "long.jpg")
        ),
    }
    following = bench.submit(**SMALL, seed=1)
    wanted = {"text": (32, 32, 9), "clear": (32, 16, 9), "turned": (16, 32, 9), "video": (32, 32, 16)}
    for name, (width, height, frames) in wanted.items():
        reply, path = result(bench, jobs[name])
        with av.open(str(path)) as file:
            made = list(file.decode(video=0))
        assert (made[0].width, made[0].height, reply["output"]["codec"]) == (width, height, "h264")
        assert [frame.pts * frame.time_base for frame in made] == [Fraction(i, 16) for i in range(frames)]
        percents = [report["progress"] for report in bench.platform.jobs[jobs[name]].progress]
        assert percents == sorted(percents) and percents
    _, video = result(bench, jobs["video"])
    assert abs(seconds(video, "audio") - 1) < Fraction(1, 10)

    until(lambda: message_of(bench, jobs["long"]).startswith("step"))
    bench.platform.cancel(jobs["long"])
    result(bench, following)
    cancelled, next_one = bench.platform.jobs[jobs["long"]], bench.platform.jobs[following]
    print(f"the next job began {next_one.started_at - cancelled.ended_at:.2f} s after the cancelling")
    assert cancelled.status == "CANCELLED" and next_one.started_at > cancelled.ended_at
    assert cancelled.progress[-1]["phase"] == "sample" and cancelled.progress[-1]["frames_done"] == 0
    assert bench.leftovers() == [] and not (bench.volume / "results" / jobs["long"]).exists()


# ---- Stopped ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES)
def test_a_job_cancelled_in_a_phase_never_begins_the_next(shop: Inside, phase: str) -> None:
    token, seen = CancelToken(), list[Report]()

    def sink(report: Report) -> None:
        seen.append(report)
        if report.get("phase") == phase:
            token.set()

    prompt = f"a cat in the {phase}"  # which is not remembered
    fields = {**SMALL, "prompt": prompt, "image": still(shop, f"{phase}.png", (48, 32 + 8 * PHASES[phase]))}
    with pytest.raises(Cancelled) as caught:
        run({"id": "gone", "input": fields}, shop.worker.desk, token, sink)
    assert caught.value.stage == seen[-1]["stage"] == "process" and seen[-1]["phase"] == phase
    assert seen[-1]["message"] in (phase, "step 0 of 2")
    assert shop.leftovers() == [] and not (shop.folder / "outputs" / "gone").exists()
    assert generate(shop)["status"] == "completed"


class Noting(CancelToken):
    """Remembers at which message it was asked whether the work should stop."""

    def __init__(self) -> None:
        super().__init__()
        self.message = ""
        self.asked: list[str] = []

    def check(self) -> None:
        self.asked.append(self.message)
        super().check()


def test_a_job_can_be_stopped_within_every_step_and_between_all_latents(shop: Inside) -> None:
    token = Noting()

    def sink(report: Report) -> None:
        token.message = report["message"].partition("frame")[0]

    fields = {**SMALL, "frames": 17, "steps": 3, "guidance": 1, "image": still(shop, "asked.png")}
    run({"id": "asked", "input": fields}, shop.worker.desk, token, sink)
    blocks, latents = 2, 5
    for message, least in (("encode", 2), *((f"step {done} of 3", blocks) for done in range(3)), ("decode", 1)):
        assert token.asked.count(message) >= least, message
    assert token.asked.count("") >= latents + 17  # once the first frame is told of


def test_the_time_limit_stops_a_job_among_its_steps(shop: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def pass_time(report: Report) -> None:
        nonlocal now
        now += 10.0 if report["message"] == "step 3 of 5" else 0.0

    with monkeypatch.context() as patched:
        patched.setattr(shop.worker, "on_report", pass_time)
        patched.setattr("engine.jobs.cancel.time", SimpleNamespace(monotonic=lambda: now))
        reply = generate(shop, id="late", steps=5, timeout_s=1)
    assert (reply["code"], reply["stage"], reply["field"]) == ("TIMED_OUT", "process", "timeout_s")
    assert "timeout_s = 1, was reached" in reply["message"]
    last = shop.worker.reports[-1]
    assert (last["phase"], last["message"]) == ("sample", "step 3 of 5")
    assert shop.leftovers() == [] and not (shop.folder / "outputs" / "late").exists()
    assert generate(shop)["status"] == "completed"


# ---- Without memory ---------------------------------------------------------------------------------------------


def test_a_video_whose_encoding_ran_out_of_memory_is_read_anew(
    shop: Inside, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = samples.video(tmp_path / "wide.mp4", frames=9, fps=16, size=(272, 16))
    given = {"size": "272*16", "frames": None, "steps": 2, "strength": 0.5, "output_format": "png_sequence"}
    with offering(tmp_path, checkpoints, (T2V,), ram_budget_mb=5) as thrifty:  # which works in tiles to begin with
        wanted = pictures(thrifty, generate(thrifty, **given, video=thrifty.offer(clip)))
    encode, tiles = Networks.encode, list[int]()

    def failing_once(self: Networks, frames: Any, plan: Any, check: Any) -> Any:
        tiles.append(plan.tile)
        if len(tiles) == 1:
            next(frames), next(frames)
            raise torch.OutOfMemoryError("no memory")
        return encode(self, frames, plan, check)

    monkeypatch.setattr(Networks, "encode", failing_once)
    reply = generate(shop, **given, video=shop.offer(clip))
    assert tiles == [0, 256] and (reply["plan"]["tile"], reply["plan"]["attempts"]) == (256, 2)
    assert codes(reply) == ["REDUCED_PLAN"]
    made = pictures(shop, reply)
    assert len(made) == 9 and all(np.array_equal(a, b) for a, b in zip(made, wanted, strict=True))
    monkeypatch.setattr(Networks, "encode", encode)
    assert codes(generate(shop, **given, video=shop.offer(clip))) == []


def test_where_no_plan_is_thrifty_enough_that_is_told_and_the_next_job_runs(
    shop: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(Networks, "decode", failing)
        reply = generate(shop, id="poor")
    assert (reply["code"], reply["stage"], reply["retryable"]) == ("OUT_OF_MEMORY", "process", False)
    assert "a smaller size" in reply["message"] and shop.leftovers() == []
    assert generate(shop)["status"] == "completed"
