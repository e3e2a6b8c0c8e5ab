"""What every family of models that enlarges pictures looks like from a job: frames in, frames out. No torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from engine.frames import Frame, Raster
from engine.notes import Note

O = TypeVar("O", contravariant=True)  # noqa: E741 - the family's options


class Watch(Protocol):
    """Who is told how far the work is, and may stop it."""

    def check(self) -> None:
        """Raises when the work should stop. Cheap: called between any two pieces of it."""

    def phase(self, name: str, done: float) -> None:
        """The phase `name` ("encode", "dit", "decode", "color") begins now; `done` frames' worth of work lies behind.

        `done` may be a fraction, and counts from the beginning of the stream.
        """


class Unwatched:
    """For work that nobody waits for."""

    def check(self) -> None:
        pass

    def phase(self, name: str, done: float) -> None:
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


class Upscaler(Protocol[O]):
    """Loaded networks on one device. `plan`, `notes` and `seconds` tell of the latest call, whole when it is exhausted.

    seconds: by phase; empty for a family without phases.
    """

    name: str
    notes: list[Note]
    seconds: dict[str, float]

    @property
    def plan(self) -> Told: ...

    def __call__(
        self, frames: Iterable[Frame], source: Raster, target: Raster, options: O, watch: Watch
    ) -> Iterator[Frame]:
        """A frame of `target` for each frame, in order. Raises OutOfMemory, Internal, and what `watch.check` raises."""

    def warm(self) -> float:
        """Run one tiny shape, so that kernels are chosen; the seconds it took."""
