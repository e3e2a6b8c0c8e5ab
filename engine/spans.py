"""Geometry without torch: chunks of a stream, tiles of a picture with what they need to see around them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], size: int, overlap: int = 0) -> Iterator[list[T]]:
    """Lists of `size` that share `overlap` items; only the last may be shorter. Never reads ahead."""
    if not 0 <= overlap < size:
        raise ValueError(f"an overlap of {overlap} does not lie within chunks of {size}")
    held: list[T] = []
    new = 0
    for item in items:
        held.append(item)
        new += 1
        if len(held) == size:
            yield held
            held, new = held[size - overlap :], 0
    if new:
        yield held


@dataclass(frozen=True, slots=True)
class Span:
    """`start` to `end` of one axis is what a tile contributes, `outer_start` to `outer_end` what it sees."""

    start: int
    end: int
    outer_start: int
    outer_end: int


def spans(length: int, size: int, pad: int, multiple: int = 1) -> list[Span]:
    """Cut `length` into parts of about equal size, at most `size`, that see `pad` more on each side inside the length.

    All bounds are multiples of `multiple`, which `length` and `size` are too. `size` 0 means one part.
    """
    if length % multiple or size % multiple:
        raise ValueError(f"{length} and {size} are not multiples of {multiple}")
    count = -(-length // size) if size else 1
    step = -(-length // (count * multiple)) * multiple
    pad = -(-pad // multiple) * multiple
    starts = range(0, length, step)
    return [Span(s, min(s + step, length), max(s - pad, 0), min(s + step + pad, length)) for s in starts]


def tiles(height: int, width: int, size: int, pad: int, multiple: int = 1) -> Iterator[tuple[Span, Span]]:
    """(rows, columns) of each tile, row by row."""
    for rows in spans(height, size, pad, multiple):
        for columns in spans(width, size, pad, multiple):
            yield rows, columns
