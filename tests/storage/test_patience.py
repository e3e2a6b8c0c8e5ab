"""Waiting and trying again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from engine.errors import Cancelled
from engine.storage.hooks import unchecked
from engine.storage.patience import Patience, Transient, retry_after


def test_waits_double_and_end_with_the_last_failure(patience: Patience, naps: list[float]) -> None:
    def attempt() -> None:
        raise Transient("answered 503")

    with pytest.raises(Transient, match="503"):
        patience.persist(attempt, unchecked)
    assert sum(naps) == pytest.approx(0.5 + 1 + 2 + 4)


def test_what_the_other_side_asks_for_is_waited_within_reason(patience: Patience) -> None:
    assert patience.seconds(1, 7) == 7
    assert patience.seconds(1, 86_400) == 60
    assert patience.seconds(4, 1) == 4


def test_jitter_shortens_a_wait_by_half_at_most() -> None:
    assert Patience(jitter=lambda: 0.0).seconds(3) == 1
    assert Patience(jitter=lambda: 1.0).seconds(3) == 2


def test_progress_starts_the_count_anew(patience: Patience) -> None:
    outcomes = iter([True] * 10 + [False] * 4)
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise Transient("dropped")

    with pytest.raises(Transient):
        patience.persist(attempt, unchecked, lambda: next(outcomes))
    assert len(calls) == 14


def test_a_cancelled_job_does_not_finish_its_wait() -> None:
    naps: list[float] = []

    def check() -> None:
        if len(naps) == 3:
            raise Cancelled("asked to stop")

    def attempt() -> None:
        raise Transient("busy", 60)

    with pytest.raises(Cancelled):
        Patience(sleep=naps.append).persist(attempt, check)
    assert sum(naps) < 2


def test_retry_after_is_read_as_seconds_or_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=3000), usegmt=True)
    assert retry_after("7") == 7
    assert 2900 < (retry_after(soon) or 0) <= 3000
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for nonsense in ("soon", "²", "9" * 5000, "-1", "1.5"):
        assert retry_after(nonsense) is None
    assert retry_after(None) is None
