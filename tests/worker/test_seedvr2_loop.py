"""SeedVR2 jobs of a worker process under the fake platform: cancelled within a chunk, finished before it leaves."""

import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from engine.jobs.cancel import CancelToken
from engine.jobs.progress import Report
from engine.jobs.run import run
from tests.media import samples
from tests.worker.conftest import Bench, until
from tests.worker.tiny import environment, offering

PHASES = {"encode", "dit", "decode", "color"}
CHUNK = 21


class Noting(CancelToken):
    """Remembers when it was asked whether the work should stop, in seconds that this process has worked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def check(self) -> None:
        self.asked.append(time.process_time())
        super().check()


def test_a_chunk_can_be_stopped_all_along(tmp_path: Path, checkpoints: Path) -> None:
    with offering(tmp_path, checkpoints) as inside:
        source = inside.offer(samples.video(tmp_path / "clip.mp4", frames=CHUNK, size=(96, 64)))
        job = {"id": "stop", "input": {"source": source, "outscale": 1, "batch_size": CHUNK}}
        inside.ask(action="warm")
        token, began = Noting(), dict[str, float]()

        def sink(report: Report) -> None:
            began.setdefault(report.get("phase", ""), time.process_time())

        run(job, inside.worker.desk, token, sink)
    asked = [moment for moment in token.asked if began["encode"] <= moment <= began["color"]]
    longest = max(later - earlier for earlier, later in pairwise(asked))
    assert longest < (asked[-1] - asked[0]) / 4


@pytest.mark.parametrize("phase", ["encode", "dit", "decode", "color"])
def test_a_job_cancelled_in_a_phase_never_begins_the_next(tmp_path: Path, checkpoints: Path, phase: str) -> None:
    with offering(tmp_path, checkpoints) as inside:
        source = inside.offer(samples.video(tmp_path / "clip.mp4", frames=9, size=(48, 32)))
        token, seen = CancelToken(), list[Report]()

        def sink(report: Report) -> None:
            seen.append(report)
            if report.get("phase") == phase:
                token.set()

        job = {"id": "gone", "input": {"source": source, "outscale": 1, "batch_size": 5}}
        with pytest.raises(Exception, match="the job was cancelled"):
            run(job, inside.worker.desk, token, sink)
        assert seen[-1]["phase"] == phase and seen[-1]["stage"] == "process"
        assert inside.leftovers() == [] and not (tmp_path / "outputs" / "gone").exists()
        assert inside.upscale(source=source, outscale=1)["status"] == "completed"


def phase_of(bench: Bench, job: str) -> str | None:
    """What the job's latest report says it is at."""
    reports = bench.platform.jobs[job].progress
    return reports[-1].get("phase") if reports else None


def test_a_job_is_cancelled_in_the_middle_of_a_chunk_and_the_next_one_runs(bench: Bench, checkpoints: Path) -> None:
    bench.start(**environment(checkpoints))
    fields = {"outscale": 1, "batch_size": CHUNK, "preset": "ultrafast"}
    long = bench.submit(source=bench.clip("long.mp4", frames=40 * CHUNK, size=(160, 128)), **fields)
    following = bench.submit(source=bench.clip("short.mp4", frames=2, size=(48, 32)), **fields)
    until(lambda: phase_of(bench, long) in ("dit", "decode"))
    bench.platform.cancel(long)
    assert bench.done(following)["status"] == "COMPLETED"
    assert bench.platform.status(long)["status"] == "CANCELLED"
    cancelled, next_one = bench.platform.jobs[long], bench.platform.jobs[following]
    print(f"the next job began {next_one.started_at - cancelled.ended_at:.2f} s after the cancelling")
    assert next_one.started_at - cancelled.ended_at < 10  # seconds; the job itself takes more than a minute
    assert cancelled.progress[-1]["frames_done"] < 40 * CHUNK
    assert bench.leftovers() == [] and not (bench.volume / "results" / long).exists()


def test_a_worker_told_to_leave_finishes_its_job_and_tells_of_it_to_the_end(bench: Bench, checkpoints: Path) -> None:
    worker = bench.start(**environment(checkpoints))
    source = bench.clip("clip.mp4", frames=2 * CHUNK, size=(128, 96), languages=("eng",))
    job = bench.submit(source=source, outscale=1, batch_size=5, preset="ultrafast")
    waiting = bench.submit(action="info")
    until(lambda: bench.platform.jobs[job].status == "IN_PROGRESS")
    worker.send_signal(signal.SIGTERM)
    done = bench.done(job)
    assert (done["status"], done["output"]["output"]["frames"]) == ("COMPLETED", 2 * CHUNK), done
    assert worker.wait(60) == 0
    assert bench.platform.status(waiting)["status"] == "IN_QUEUE"
    told = [report for report in bench.platform.jobs[job].progress if "phase" in report]
    steps = [(report["progress"], report["frames_done"]) for report in told]
    assert steps == sorted(steps) and {report["phase"] for report in told} <= PHASES
    assert bench.leftovers() == []
