"""Work on a GPU that somebody stops."""

from engine.pipelines.protocol import Unwatched


class Stopped(Exception):
    pass


class StoppingIn(Unwatched):
    """Somebody who stops the work in the middle of a phase."""

    def __init__(self, phase: str) -> None:
        self.wanted, self.checks = phase, 0

    def phase(self, name: str, done: float) -> None:
        self.checks = 3 if name == self.wanted else 0

    def check(self) -> None:
        self.checks -= 1
        if self.checks == 1:
            raise Stopped
