"""A worker is ready before its first job, or takes none and says why; and a job says what it had to wait for."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.worker.conftest import Bench, until
from tests.worker.inside import Inside, inside, tiny
from tests.worker.tiny import LAYOUT, MODEL, VAE, environment, offering

SLOW = Path(__file__).with_name("slow_loading.py")
OTHER = "tiny-seedvr2-3b-q8"


def ended_unfit(bench: Bench, worker: "subprocess.Popen[bytes]") -> list[str]:
    """What the log says of a worker that refused to take the job which waits; the platform was told, too."""
    job = bench.submit(action="info")
    assert worker.wait(60) == 1
    assert bench.platform.status(job)["status"] == "IN_QUEUE" and bench.takes() == 0
    assert bench.platform.requests("ping")[-1]["query"]["status"] == "unhealthy"
    with pytest.raises(ProcessLookupError):  # nobody is left who would go on to ping
        os.killpg(worker.pid, 0)
    lines = [line for line in bench.log.read_text().splitlines() if "no jobs will be taken" in line]
    assert all('"level": "CRITICAL"' in line and "traceback" not in line for line in lines)
    return lines


def test_half_a_model_is_refused_by_name_and_file(bench: Bench, checkpoints: Path) -> None:
    volume = bench.volume / "models"
    volume.mkdir()
    shutil.copy(checkpoints / LAYOUT.file, volume)
    settings = environment(checkpoints, f"bundled,{MODEL}") | {"MODELS_DIR": f"/nowhere:{volume}"}
    (line,) = ended_unfit(bench, bench.start(**settings))
    assert f"{MODEL}  files  {VAE} is missing; " in line and f"looked in /nowhere, {volume}" in line


def test_every_failing_check_has_a_line_of_its_own(bench: Bench) -> None:
    scratch = bench.volume / "file"
    scratch.touch()
    lines = ended_unfit(bench, bench.start(MODELS="bundled,bundeld", SCRATCH_DIR=str(scratch / "below")))
    assert len(lines) == 2
    assert "scratch folder  writable  " in lines[0] and "Not a directory" in lines[0]
    assert "the setting MODELS is wrong: no model is called `bundeld`; the nearest are `bundled`" in lines[1]


def test_a_model_that_cannot_be_loaded_is_refused(bench: Bench, checkpoints: Path) -> None:
    (line,) = ended_unfit(bench, bench.start(**environment(checkpoints), RAM_BUDGET_MB="2"))
    assert f"`{MODEL}` takes " in line and "more than the 2 here" in line


def test_pings_go_on_while_weights_load_and_no_job_is_taken_before(bench: Bench) -> None:
    bench.start(sys.executable, "-u", str(SLOW), LOADING_SECONDS="2")
    assert bench.done(bench.submit(action="info"))["output"]["loaded"] == ["bundled"]
    taken = bench.platform.requests("job-take")[0]["t"]
    before = [ping for ping in bench.platform.requests("ping") if ping["t"] < taken]
    assert len(before) >= 2 and taken - before[0]["t"] > 1.5


def test_a_worker_that_loads_leaves_at_once(bench: Bench) -> None:
    worker = bench.start(sys.executable, "-u", str(SLOW), LOADING_SECONDS="120")
    until(lambda: bool(bench.platform.requests("ping")))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert "leaving" in bench.log.read_text() and bench.takes() == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(worker.pid, 0)


def test_a_worker_that_imports_leaves_at_once(bench: Bench) -> None:
    worker = bench.start()
    caught = Path(f"/proc/{worker.pid}/status")

    def heeds_the_signal() -> bool:
        mask = next(line.split()[1] for line in caught.read_text().splitlines() if line.startswith("SigCgt"))
        return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)

    until(heeds_the_signal)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert bench.platform.requests("ping") == []


def metrics(view: dict[str, Any]) -> tuple[bool, float]:
    """`cold` and `spin_up_time` of a reply of a job that went well."""
    assert view.get("status") == "completed", view
    return view["metrics"]["cold"], view["metrics"]["spin_up_time"]


def test_a_job_that_waited_for_the_worker_tells_the_time_from_the_process_s_start(bench: Bench) -> None:
    waiting = bench.submit(**tiny(bench.volume))
    began = time.monotonic()
    bench.start()
    cold, waited = metrics(bench.done(waiting)["output"])
    assert cold and 0 < waited < time.monotonic() - began
    (told,) = re.findall(r"ready for jobs (\S+) s after the process's start", bench.log.read_text())
    assert waited == pytest.approx(float(told), abs=0.01)
    assert metrics(bench.done(bench.submit(**tiny(bench.volume)))["output"]) == (False, 0)


@contextmanager
def ready(folder: Path, seconds_ago: float = 0) -> Iterator[Inside]:
    """A worker whose start took 60 s and which is ready for jobs, since then."""
    with inside(folder) as worker:
        worker.worker.desk.preload()
        worker.worker.desk.start_seconds = 60
        worker.worker.desk.free_at = time.monotonic() - seconds_ago
        yield worker


@pytest.mark.parametrize("first", [{"sauce": "wrong"}, {"action": "info"}, {"action": "warm"}, {"source": "/none.mp4"}])
def test_only_the_first_job_has_waited_for_the_start_whatever_became_of_it(
    tmp_path: Path, first: dict[str, Any]
) -> None:
    with ready(tmp_path) as worker:
        worker.ask(**first)
        assert metrics(worker.ask(**tiny(tmp_path))) == (False, 0)


def test_a_job_that_comes_long_after_the_start_has_not_waited_for_it(tmp_path: Path) -> None:
    with ready(tmp_path, seconds_ago=3) as worker:
        assert metrics(worker.ask(**tiny(tmp_path))) == (False, 0)


def test_jobs_of_a_worker_tell_what_they_waited_for(tmp_path: Path) -> None:
    small = tiny(tmp_path)
    with ready(tmp_path) as worker:
        assert metrics(worker.ask(**small)) == (True, 60)
        assert metrics(worker.ask(**small)) == (False, 0)
        worker.worker.desk.residency._idle()  # what the timer of a GPU calls
        alone = worker.ask(**small)
        cold, waited = metrics(alone)
        assert cold and 0 < waited <= alone["metrics"]["total_time"]
        worker.ask(action="offload")
        worker.ask(action="warm")
        assert metrics(worker.ask(**small)) == (False, 0)


def test_two_models_that_do_not_fit_together_take_turns_and_the_log_says_so(
    tmp_path: Path, checkpoints: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with offering(tmp_path, checkpoints, (MODEL, OTHER), ram_budget_mb=1500) as fresh:
        for model in (MODEL, OTHER, MODEL):
            assert fresh.ask(model=model, resolution=32, **tiny(tmp_path))["metrics"]["cold"]
            assert fresh.ask(action="info")["loaded"] == [model]
    dropped = [record.message for record in caplog.records if record.message.startswith("dropped")]
    assert [line.rpartition(",")[0] for line in dropped] == [
        f"dropped {MODEL} to make room for {OTHER}",
        f"dropped {OTHER} to make room for {MODEL}",
    ]
