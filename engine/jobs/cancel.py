"""The token by which a job is stopped: by its caller, by its own time limit, or because the worker must go."""

import threading
import time

from engine.errors import Cancelled, TimedOut


class CancelToken:
    """Thread-safe. Long work calls `check` between its pieces; it raises once the job should stop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._deadline: float | None = None
        self._limit: float | None = None

    def set(self) -> None:
        """Ask the job to stop at its next check."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def limit(self, seconds: float | None) -> None:
        """Start the job's own clock; None sets no limit."""
        if seconds is not None:
            self._limit, self._deadline = seconds, time.monotonic() + seconds

    def check(self) -> None:
        """Raises Cancelled, or TimedOut once the limit has passed."""
        if self._event.is_set():
            raise Cancelled("the job was cancelled")
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise TimedOut(
                f"the job's own limit, timeout_s = {self._limit:g}, was reached",
                hint="raise timeout_s, or send fewer frames or a smaller size",
                field="timeout_s",
            )
