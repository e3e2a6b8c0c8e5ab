"""How much memory a way of working takes, and the ladder of thriftier ways. No torch, so that an estimate is cheap."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from engine.errors import OutOfMemory
from engine.notes import Note
from engine.spans import spans

TILES = (2048, 1024, 768, 512, 384, 256, 192, 128, 96, 64)
MIB = 2**20
ALLOCATOR_SLACK = 1.25


@dataclass(frozen=True, slots=True)
class Plan:
    """`batch` frames at once, cut into tiles of at most `tile` (0: whole) that see `tile_pad` around themselves."""

    batch: int
    tile: int
    tile_pad: int
    bytes: int

    def __str__(self) -> str:
        shape = f"tiles of {self.tile} pixels" if self.tile else "whole frames"
        return f"batch {self.batch}, {shape}, {self.bytes // MIB} MiB"

    def as_reply(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch,
            "temporal_overlap": 0,
            "tile": self.tile or None,
            "tile_pad": self.tile_pad if self.tile else None,
        }


class Planned(Protocol):
    """A way of working of any family."""

    @property
    def bytes(self) -> int: ...

    def as_reply(self) -> dict[str, Any]: ...


P = TypeVar("P", bound=Planned)


@dataclass(frozen=True, slots=True)
class Ran(Generic[P]):
    """The plan that a job ended with, and how many were tried."""

    plan: P
    attempts: int

    def as_reply(self) -> dict[str, Any]:
        return {**self.plan.as_reply(), "attempts": self.attempts}


@dataclass(frozen=True, slots=True)
class Cost:
    """A network's memory, and a job's around it. Fitted to the resident memory of whole runs on a CPU (torch 2.13,
    2026-11-21, both networks in both dtypes): from 1.0 to 1.9 of what was measured.

    inside: bytes for each pixel that one pass of the network sees, its output not counted. floor: bytes a pass takes
    whatever its height. scale: the network's. channels: 3, or 4 with alpha. ratio: pixels of the result for each of
    the source. copies: of the result, in float32, that its conversion to codes makes. resized: whether the result is
    of another size than the network's.
    """

    inside: float
    floor: int
    scale: int
    channels: int
    ratio: float
    copies: float
    resized: bool

    def bytes(self, batch: int, height: int, width: int, tile: int, tile_pad: int, multiple: int = 1) -> int:
        """Peak bytes of one pass over `batch` frames, beyond the weights."""
        rows, columns = (_longest(n, tile, tile_pad, multiple) for n in (height, width))
        result = self.copies * self.ratio
        if self.resized:
            result += self.ratio + self.scale * self.ratio**0.5  # the resized picture, and one resized across only
        around = 4 * self.channels * (1 + self.scale**2 + result) * height * width
        return int(ALLOCATOR_SLACK * (batch * (self.inside * rows * columns + around) + self.floor))


def ladder(
    cost: Cost, height: int, width: int, *, batch: int, tile: int | None, tile_pad: int, multiple: int = 1
) -> Iterator[Plan]:
    """Plans from the roomiest to the thriftiest: fewer frames first, then smaller tiles. No shape comes twice."""

    def plan(frames: int, size: int) -> Plan:
        return Plan(frames, size, tile_pad, cost.bytes(frames, height, width, size, tile_pad, multiple))

    first = _rounded(tile or 0, multiple)
    frames = batch
    while frames > 1:
        yield plan(frames, first)
        frames //= 2
    yield plan(1, first)
    seen = _shape(height, width, first, tile_pad, multiple)
    for size in TILES:
        if (first and size >= first) or size >= max(height, width):
            continue
        if (shape := _shape(height, width, size, tile_pad, multiple)) != seen:
            yield plan(1, size)
            seen = shape


def choose(plans: Sequence[Planned], free_bytes: int) -> int:
    """The roomiest that fits, by index; the thriftiest when none does, for an estimate may err on the safe side."""
    return next((i for i, plan in enumerate(plans) if plan.bytes <= free_bytes), len(plans) - 1)


def reduced(plan: Planned) -> Note:
    """What is to be said where memory ran out and the work goes on with `plan`."""
    return Note("REDUCED_PLAN", f"memory ran out, so the work went on with {plan}")


def none_fits(tried: Planned, free_bytes: int, smaller: str) -> OutOfMemory:
    """Where memory ran out with the thriftiest plan. smaller: what would fit."""
    free = f"the {free_bytes // MIB} MiB that were free"
    text = f"even {tried} did not fit into {free}; {smaller}, or a worker with more memory, would fit"
    return OutOfMemory(text, stage="process")


def _shape(height: int, width: int, tile: int, tile_pad: int, multiple: int) -> tuple[int, int]:
    return _longest(height, tile, tile_pad, multiple), _longest(width, tile, tile_pad, multiple)


def _longest(length: int, tile: int, tile_pad: int, multiple: int) -> int:
    length = _rounded(length, multiple)
    return max(span.outer_end - span.outer_start for span in spans(length, tile, tile_pad, multiple))


def _rounded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
