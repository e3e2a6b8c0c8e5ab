"""What a job knows of any loaded pipeline, whether that enlarges frames or makes them, and what tells of its work.

No torch.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from engine.notes import Note


class Watch(Protocol):
    """Who is told how far the work is, and may stop it."""

    def check(self) -> None:
        """Raises when the work should stop. Cheap: called between any two pieces of it."""

    def phase(self, name: str, done: float) -> None:
        """The phase `name` ("encode", "dit", "sample", ...) begins now; `done` frames' worth of work lies behind.

        `done` may be a fraction, and counts from the beginning of the stream.
        """

    def step(self, done: int, total: int) -> None:
        """`done` of `total` denoising steps of the whole call are behind; told once with 0 before the first."""


class Unwatched:
    """For work that nobody waits for."""

    def check(self) -> None:
        pass

    def phase(self, name: str, done: float) -> None:
        pass

    def step(self, done: int, total: int) -> None:
        pass


UNWATCHED: Watch = Unwatched()


class Told(Protocol):
    """A way of working, as a job's reply tells it."""

    def as_reply(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would take beyond the weights; seconds of the networks alone, None where nobody can know yet."""

    plan: Told
    peak_bytes: int
    seconds_per_frame: float | None
    notes: tuple[Note, ...] = ()


class Pipeline(Protocol):
    """Loaded networks on one device. `plan`, `notes` and `seconds` tell of the latest call, whole when it is exhausted.

    seconds: by phase; empty for a family without phases.
    """

    name: str
    notes: list[Note]
    seconds: dict[str, float]

    @property
    def plan(self) -> Told: ...

    def warm(self, free_bytes: int) -> float:
        """Run one tiny shape, so that kernels are chosen; the seconds it took. free_bytes: of the device."""
