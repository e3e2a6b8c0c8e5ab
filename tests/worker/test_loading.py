"""Loading a model inside a job tells how far it is and ends with its job; what was loaded by then is let go."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import Cancelled
from engine.jobs import desk
from engine.jobs.cancel import CancelToken
from engine.jobs.progress import Report
from engine.jobs.run import run
from tests.unit.test_weights_loading import pages
from tests.worker.conftest import Bench, until
from tests.worker.inside import Inside, tiny
from tests.worker.test_ready import SLOW
from tests.worker.tiny import LAYOUTS, MODEL, T2V, environment, generate, offering

WIDE = "tiny-seedvr2-3b-pth"


@pytest.fixture
def cold(tmp_path: Path, checkpoints: Path) -> Iterator[Inside]:
    """A worker with nothing loaded, which maps what is stored in float32."""
    with offering(tmp_path, checkpoints, (MODEL, T2V, WIDE), dtype="fp32") as worker:
        yield worker


def told_of(reports: list[Report], stage: str) -> list[Report]:
    """The reports that tell how much of a model's weights is in."""
    return [report for report in reports if report["stage"] == stage and report["message"].endswith(" MB")]


def shares(reports: list[Report]) -> list[float]:
    """How much of all bytes is in, by each report."""
    rows = [report["message"].split() for report in reports]
    return [float(row[0]) / float(row[2]) for row in rows]


def test_the_stage_load_tells_of_the_bytes_that_are_in(cold: Inside) -> None:
    assert cold.upscale(resolution=32, **tiny(cold.folder))["status"] == "completed"
    told = told_of(cold.worker.reports, "load")
    percents = [report["progress"] for report in told]
    assert percents == sorted(percents) and percents[0] < 8.5 and percents[-1] == 10
    assert shares(told) == sorted(shares(told)) and shares(told)[-1] > 0.95
    cold.upscale(resolution=32, **tiny(cold.folder))
    assert told_of(cold.worker.reports, "load") == []


def test_all_networks_of_wan_make_up_the_whole(cold: Inside) -> None:
    assert generate(cold, model=T2V)["status"] == "completed"
    assert shares(told_of(cold.worker.reports, "load"))[-1] > 0.95


def test_weights_of_the_enlarging_model_are_told_and_move_no_percentage(cold: Inside) -> None:
    reply = generate(cold, model=T2V, upscale={"model": MODEL, "resolution": 48})
    assert reply["status"] == "completed"
    told = told_of(cold.worker.reports, "upscale")
    assert shares(told)[-1] > 0.95 and {report["progress"] for report in told} == {70}


def test_warming_goes_from_nothing_to_the_whole(cold: Inside) -> None:
    assert cold.ask(action="warm", model=MODEL)["status"] == "completed"
    percents = [report["progress"] for report in cold.worker.reports]
    assert percents == sorted(percents) and percents[0] == 0 and percents[-1] > 95


@pytest.mark.parametrize("action", ["upscale", "warm"])
def test_a_cancelled_load_leaves_nothing_and_the_next_job_loads_anew(
    cold: Inside, checkpoints: Path, action: str
) -> None:
    token, seen, held = CancelToken(), list[Report](), list[int]()
    file = checkpoints / LAYOUTS["3b-pth"].file

    def sink(report: Report) -> None:
        seen.append(report)
        if told_of([report], "load"):
            held.append(pages(file))
            token.set()

    given = {"resolution": 32, **tiny(cold.folder)} if action == "upscale" else {}
    fields = {"model": WIDE, **given}
    with suppress(Cancelled):
        run({"id": "gone", "input": {"action": action, **fields}}, cold.worker.desk, token, sink)
    assert len(held) == 1 and held[0] > 0 and seen[-1]["stage"] == "load"
    assert cold.worker.desk.residency.loaded == [] and pages(file) == 0
    assert cold.ask(action=action, **fields)["status"] == "completed"
    assert pages(file) >= file.stat().st_size * 0.9


def test_a_load_under_way_ends_with_its_cancelled_job(bench: Bench, checkpoints: Path) -> None:
    slow = bench.volume / "slow"
    slow.touch()
    settings = environment(checkpoints, f"bundled,{MODEL}")
    bench.start(sys.executable, "-u", str(SLOW), SLOW_DISK=str(slow), **settings)
    fields = {"model": MODEL, "resolution": 32, **tiny(bench.volume)}
    cancelled, following = bench.submit(**fields), bench.submit(action="info")
    reports = bench.platform.jobs[cancelled].progress
    until(lambda: bool(told_of(reports, "load")))
    bench.platform.cancel(cancelled)
    assert bench.done(following)["output"]["loaded"] == ["bundled"]
    assert bench.platform.status(cancelled)["status"] == "CANCELLED"
    slow.unlink()
    assert bench.done(bench.submit(**fields))["output"]["metrics"]["cold"]


@pytest.mark.parametrize(("every", "lines"), [(0.0, True), (60.0, False)])
def test_the_log_tells_how_far_a_long_start_is(
    cold: Inside, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, every: float, lines: bool
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(desk, "LOGGED", every)
    cold.worker.desk.preload()
    told = [record.message for record in caplog.records if record.message.startswith(f"loading {MODEL}: ")]
    assert bool(told) == lines and all(line.endswith(" of 9 MB") for line in told)
