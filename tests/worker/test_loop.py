"""A real worker process under the fake platform: jobs answered, progress ordered, stops and signals obeyed."""

import json
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.worker.conftest import Bench, until
from tests.worker.fake_platform import _Handler

BROKEN = Path(__file__).with_name("broken_device.py")


def test_a_job_comes_back_with_a_file_and_its_facts(bench: Bench) -> None:
    bench.start()
    job = bench.submit(source=bench.clip(frames=12, languages=("eng",)))
    done = bench.done(job)
    assert done["status"] == "COMPLETED", done
    output = done["output"]
    assert (output["output"]["width"], output["output"]["height"]) == (128, 96)
    assert (output["output"]["frames"], output["output"]["audio_tracks"]) == (12, 1)
    assert [stage["name"] for stage in output["stages"]] == [
        "preflight",
        "download",
        "probe",
        "load",
        "process",
        "upload",
    ]
    assert {stage["status"] for stage in output["stages"]} == {"success"}
    result = Path(output["output"]["url"].removeprefix("file://"))
    assert result.stat().st_size == output["output"]["bytes"]
    record = json.loads((result.parent / "result.json").read_text())
    assert record["output"]["sha256"] == output["output"]["sha256"]
    assert bench.leftovers() == []


def test_a_bad_job_fails_with_a_sentence_and_the_next_one_is_fine(bench: Bench) -> None:
    bench.start()
    bad = bench.done(bench.submit(sauce="clip.mp4"))
    assert bad["status"] == "FAILED"
    assert bad["error"].startswith("INVALID_INPUT: ")
    assert "did you mean `source`" in bad["error"]
    assert bad["output"]["retryable"] is False
    assert "Traceback" not in json.dumps(bad)
    assert str(bench.volume) not in json.dumps(bad)
    assert bench.done(bench.submit(source=bench.clip()))["status"] == "COMPLETED"


def test_progress_rises_and_ends_before_the_result(bench: Bench) -> None:
    bench.start()
    job = bench.submit(source=bench.clip(frames=300, size=(160, 120)), preset="ultrafast")
    assert bench.done(job)["status"] == "COMPLETED"
    reports = bench.platform.jobs[job].progress
    percents = [report["progress"] for report in reports]
    assert len(percents) >= 2
    assert percents == sorted(percents)
    assert {"stage", "progress", "message"} <= set(reports[-1])
    times = [
        entry["t"]
        for entry in bench.platform.requests("job-done")
        if json.loads(entry["body"]).get("status") == "IN_PROGRESS"
    ]  # as they came, which may be later than they were sent, two seconds apart
    assert all(later - earlier > 1 for earlier, later in pairwise(times))


def test_a_cancelled_job_stops_before_the_next_one_starts(bench: Bench) -> None:
    bench.start()
    long = bench.submit(source=bench.clip("long.mp4", frames=1500, size=(320, 240)), preset="ultrafast")
    following = bench.submit(source=bench.clip())
    until(lambda: bench.frames_done(long) > 0)
    bench.platform.cancel(long)
    assert bench.done(following)["status"] == "COMPLETED"
    assert bench.platform.status(long)["status"] == "CANCELLED"
    assert bench.leftovers() == []
    assert not (bench.volume / "results" / long).exists()


@pytest.mark.parametrize("fault", [{"status": 500, "times": 3}, {"status": 429}, {"drop": True}])
def test_a_result_that_the_platform_did_not_take_is_sent_again(bench: Bench, fault: dict[str, Any]) -> None:
    bench.start()
    job = bench.submit(action="info")
    bench.platform.inject("job-done", **fault)
    assert bench.done(job)["status"] == "COMPLETED"


@pytest.mark.parametrize("status", [400, 500])
def test_a_platform_that_fails_at_once_is_not_asked_without_a_pause(bench: Bench, status: int) -> None:
    bench.platform.inject("job-take", status, times=4)
    bench.start()
    until(lambda: bench.takes() > 4)
    times = [entry["t"] for entry in bench.platform.requests("job-take")]
    assert all(later - earlier > 0.4 for earlier, later in pairwise(times))


def test_an_idle_worker_leaves_at_once_and_its_queue_is_untouched(bench: Bench) -> None:
    bench.platform.take_wait = 60  # seconds, which a poll takes that nobody breaks off
    worker = bench.start()
    assert bench.done(bench.submit(action="info"))["status"] == "COMPLETED"
    polls = bench.takes()
    until(lambda: bench.takes() > polls)
    worker.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert worker.wait(60) == 0
    assert time.monotonic() - began < 10
    job = bench.submit(action="info")
    assert bench.platform.status(job)["status"] == "IN_QUEUE"


@pytest.mark.parametrize("milliseconds", [20, 60])
def test_a_job_that_comes_with_the_signal_is_either_run_or_left_in_the_queue(bench: Bench, milliseconds: int) -> None:
    worker = bench.start()
    until(lambda: bench.takes() > 0)
    worker.send_signal(signal.SIGTERM)
    time.sleep(milliseconds / 1000)
    job = bench.submit(action="info")
    assert worker.wait(60) == 0
    assert bench.platform.status(job)["status"] in ("IN_QUEUE", "COMPLETED")


def test_a_job_that_was_sent_before_the_signal_is_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform has counted it as taken, but its bytes are under way for longer than the worker takes to leave."""
    reply = _Handler._reply

    def late(handler: _Handler, status: int, payload: Any = None) -> bool:
        if payload and "id" in payload and handler.entry["route"] == "job-take":
            time.sleep(0.4)
        return reply(handler, status, payload)

    monkeypatch.setattr(_Handler, "_reply", late)
    worker = bench.start()
    until(lambda: bench.takes() > 0)
    job = bench.submit(action="info")
    until(lambda: bench.platform.status(job)["status"] == "IN_PROGRESS")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert bench.platform.status(job)["status"] == "COMPLETED"


def test_a_poll_that_is_hung_up_on_is_not_put_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy does it; the client then asks once more, over a connection that was not there at the signal."""
    reply = _Handler._reply

    def hang_up(handler: _Handler, status: int, payload: Any = None) -> bool:
        handler.close_connection = handler._peer_gone()
        return not handler.close_connection and reply(handler, status, payload)

    monkeypatch.setattr(_Handler, "_reply", hang_up)
    worker = bench.start()
    until(lambda: bench.takes() > 0)
    worker.send_signal(signal.SIGTERM)
    until(lambda: bench.takes() > 1 or worker.poll() is not None)
    time.sleep(0.3)
    job = bench.submit(action="info")
    assert worker.wait(60) == 0
    assert bench.platform.status(job)["status"] == "IN_QUEUE"


def test_a_busy_worker_finishes_its_job_before_it_leaves(bench: Bench) -> None:
    worker = bench.start()
    job = bench.submit(source=bench.clip("long.mp4", frames=300, size=(160, 120)), preset="ultrafast")
    waiting = bench.submit(action="info")
    until(lambda: bench.frames_done(job) > 0)
    worker.send_signal(signal.SIGTERM)
    assert bench.done(job)["status"] == "COMPLETED"
    assert worker.wait(60) == 0
    assert bench.platform.status(waiting)["status"] == "IN_QUEUE"


def silent(bench: Bench) -> bool:
    """Whether no ping comes, but one that was under way, for two intervals of the heartbeat."""
    time.sleep(0.5)
    before = len(bench.platform.requests("ping"))
    time.sleep(2.5)
    return len(bench.platform.requests("ping")) == before


def test_the_heartbeat_beats_during_a_job_and_dies_with_the_worker(bench: Bench) -> None:
    worker = bench.start()
    job = bench.submit(source=bench.clip("long.mp4", frames=200, size=(160, 120)), preset="ultrafast")
    assert bench.done(job)["status"] == "COMPLETED"
    beats = [entry for entry in bench.platform.requests("ping") if entry["query"].get("job_id") == job]
    assert beats
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    assert silent(bench)


def test_the_heartbeat_of_a_killed_worker_ends(bench: Bench) -> None:
    worker = bench.start()
    until(lambda: bool(bench.platform.requests("ping")))
    worker.kill()
    worker.wait(60)
    assert silent(bench)


def test_a_lost_device_answers_the_job_and_takes_no_other(bench: Bench) -> None:
    worker = bench.start(sys.executable, "-u", str(BROKEN))
    job = bench.submit(source=bench.clip())
    waiting = bench.submit(action="info")
    view = bench.done(job)
    assert view["error"].startswith("INTERNAL: the worker's GPU failed")
    assert bench.platform.jobs[job].stop_pod
    assert worker.wait(60) == 1
    assert bench.platform.status(waiting)["status"] == "IN_QUEUE"
