"""Stages in order, each with its seconds and its fate; an error knows in which of them it came."""

import pytest

from engine.errors import DiskFull
from engine.jobs.clock import Clock
from engine.jobs.progress import Progress, Report


class Watch:
    """A clock that stands still unless it is told to go on."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
def clock(watch: Watch, reports: list[Report]) -> Clock:
    return Clock(Progress(reports.append, watch), watch)


def test_stages_have_their_seconds(clock: Clock, watch: Watch) -> None:
    with clock("download"):
        watch.now += 2.5
    with clock("process"):
        watch.now += 4
    watch.now += 1
    assert clock.stages == [
        {"name": "download", "status": "success", "duration": 2.5},
        {"name": "process", "status": "success", "duration": 4},
    ]
    assert (clock.seconds("download"), clock.seconds("upload"), clock.total) == (2.5, 0, 7.5)


def test_a_stage_that_begins_is_reported(clock: Clock, reports: list[Report]) -> None:
    with clock("load"):
        assert [report["stage"] for report in reports] == ["load"]


def test_an_error_carries_the_innermost_stage(clock: Clock, watch: Watch) -> None:
    with pytest.raises(DiskFull) as caught, clock("download"):
        watch.now += 3
        raise DiskFull("the disk is full")
    assert caught.value.stage == "download"
    assert clock.stages == [{"name": "download", "status": "failed", "duration": 3}]


def test_an_error_that_knows_its_stage_keeps_it(clock: Clock) -> None:
    with pytest.raises(DiskFull) as caught, clock("process"):
        raise DiskFull("the disk is full", stage="upload")
    assert caught.value.stage == "upload"


def test_other_errors_pass_untouched(clock: Clock) -> None:
    with pytest.raises(KeyError), clock("process"):
        raise KeyError("x")
