"""The token stops a job at its next check, and only then."""

import pytest

from engine.errors import Cancelled, TimedOut
from engine.jobs.cancel import CancelToken


def test_a_fresh_token_lets_work_go_on() -> None:
    token = CancelToken()
    token.limit(None)
    token.check()


def test_a_set_token_stops_at_the_next_check() -> None:
    token = CancelToken()
    token.set()
    with pytest.raises(Cancelled):
        token.check()


def test_a_limit_that_has_passed_is_a_timeout_that_may_be_tried_again() -> None:
    token = CancelToken()
    token.limit(0.0)
    with pytest.raises(TimedOut, match="timeout_s = 0") as caught:
        token.check()
    assert caught.value.retryable
