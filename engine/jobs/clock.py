"""Times the stages of a job under their own names, and tells an error in which of them it came."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.jobs.progress import Progress


class Clock:
    """The stages of one job in order, each with its status and its seconds."""

    def __init__(self, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._now = now
        self._began = now()
        self.stages: list[dict[str, Any]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the block as stage `name`; an error that leaves it carries that name as its `stage`."""
        self._progress.stage(name)
        stage = {"name": name, "status": "running", "duration": 0.0}
        self.stages.append(stage)
        began = self._now()
        try:
            yield
            stage["status"] = "success"
        except Exception as error:
            stage["status"] = "failed"
            if getattr(error, "stage", None) is None:
                error.stage = name  # type: ignore[attr-defined]
            raise
        finally:
            stage["duration"] = round(self._now() - began, 3)

    def seconds(self, name: str) -> float:
        """How long stage `name` took, 0 when it was not run."""
        return float(sum(stage["duration"] for stage in self.stages if stage["name"] == name))

    @property
    def total(self) -> float:
        """Seconds since the job began."""
        return round(self._now() - self._began, 3)
