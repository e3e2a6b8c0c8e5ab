"""Trying again: how often, how long to wait in between, and what may be tried again at all."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from engine.storage.hooks import Check

T = TypeVar("T")
_SLICE = 0.5  # seconds between two looks at the cancel check while waiting


class Transient(Exception):
    """This attempt failed, the next may not. `after` is how many seconds the other side asked us to wait."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


@dataclass(frozen=True, slots=True)
class Patience:
    """At most `tries` attempts in a row without progress, with exponential waits and jitter between them."""

    tries: int = 5
    first: float = 0.5
    longest: float = 30.0
    longest_asked: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def persist(self, attempt: Callable[[], T], check: Check, progressed: Callable[[], bool] = lambda: False) -> T:
        """What `attempt` returns. Raises the last Transient when patience is used up.

        An attempt that got further than all before it (`progressed`) counts as the first again: a line that drops
        every hundred megabytes is slow, not dead.
        """
        failures = 0
        while True:
            check()
            try:
                return attempt()
            except Transient as failure:
                failures = 1 if progressed() else failures + 1
                if failures >= self.tries:
                    raise
                seconds = self.seconds(failures, failure.after)
            self._wait(seconds, check)

    def seconds(self, failures: int, after: float | None = None) -> float:
        """How long to wait after that many failures; never shorter than the other side asked for, within reason."""
        backoff = min(self.longest, self.first * 2.0 ** (failures - 1)) * (0.5 + self.jitter() / 2)
        return max(backoff, min(after or 0.0, self.longest_asked))

    def _wait(self, seconds: float, check: Check) -> None:
        while seconds > 0:
            check()
            self.sleep(min(seconds, _SLICE))
            seconds -= _SLICE


def retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, given as seconds or as a date; None where it says nothing."""
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
