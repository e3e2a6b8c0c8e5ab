"""What a model at work is watched by: the job's token may stop it, the job's progress is told its phases and steps."""

from engine.jobs.cancel import CancelToken
from engine.jobs.progress import Progress


class JobWatch:
    """A `Watch` for a job of `total` frames."""

    def __init__(self, token: CancelToken, progress: Progress, total: int) -> None:
        self.check = token.check
        self._progress = progress
        self._total = total

    def phase(self, name: str, done: float) -> None:
        self._progress.phase(name, done, self._total)

    def step(self, done: int, total: int) -> None:
        self._progress.step(done, total, self._total)
