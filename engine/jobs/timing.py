"""Frames at another rate: those of a source as a model counts them, those that were made as the result shows them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

from engine.frames import Frame


def at_rate(frames: Iterable[Frame], rate: int, count: int) -> Iterator[Frame]:
    """`count` frames at `rate` a second: each the last one that began by then, counted from the first frame's time.

    Whatever the source's rate is, and if it varies. What is over is not read.
    """
    held: Frame | None = None
    begin = Fraction(0)
    given = 0
    for frame in frames:
        if held is None:
            begin = frame.time
        while held is not None and given < count and Fraction(given, rate) < frame.time - begin:
            yield held
            given += 1
        if given == count:
            return
        held = frame
    for _ in range(count - given if held is not None else 0):
        assert held is not None
        yield held


def retimed(frames: Iterable[Frame], fps: Fraction, begin: Fraction = Fraction(0)) -> Iterator[Frame]:
    """The same frames, one after another at `fps` from `begin` on."""
    for index, frame in enumerate(frames):
        yield replace(frame, time=begin + index / fps, duration=1 / fps)
