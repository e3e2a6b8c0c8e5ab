"""Hard cuts in a stream of frames, from thumbnails of their luma. NumPy only, no look ahead.

A cut puts other things everywhere at once, much more than the frames before it kept changing. Frames are compared by
correlation, which fades, flicker and flashes leave high, at the shift that suits best, which pans leave high.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.frames import Frame

ROWS, COLUMNS = 18, 32
SAMPLES = 8  # lines and columns that are read for each cell
SHIFTS = 3, 6  # cells that a pan may move in one frame
FLAT = 3.0  # standard deviation, in codes of 8 bits, of a frame that shows nothing
LEAST_MOVED = 5.0  # mean change, in codes of 8 bits, that a cut makes
STILL = 0.1  # change below which no movement is looked for
LEAST_CHANGE = 0.35
RESTLESS = 2.0  # a cut changes more by so many times the mean of recent changes
MEMORY = 0.8  # of that mean, from one frame to the next

Thumbnail = NDArray[np.float32]


class Cuts:
    """Tells which frames begin another scene. What was before the last cut has no influence."""

    def __init__(self, bits: int = 8) -> None:
        self._unit = 2.0 ** (bits - 8)
        self._before: Thumbnail | None = None  # the latest frame that showed something
        self._usual = 0.0

    def is_cut(self, frame: Frame) -> bool:
        """Whether this frame, the next of the stream, begins another scene. The first of all does not."""
        now = thumbnail(frame) / np.float32(self._unit)
        if now.std() < FLAT:  # black, or a flash of white: what comes after it is compared with what came before
            return False
        before, self._before = self._before, now
        if before is None:
            return False
        change = _change(before, now)
        moved = float(np.abs(now - before).mean())
        if moved > LEAST_MOVED and change > LEAST_CHANGE + RESTLESS * self._usual:
            self._usual = 0.0
            return True
        self._usual = MEMORY * self._usual + (1 - MEMORY) * change
        return False


def thumbnail(frame: Frame) -> Thumbnail:
    """(ROWS, COLUMNS) means of luma, or of green, from a grid of samples in each cell."""
    plane = frame.planes[0]
    if plane.ndim == 3:
        plane = plane[..., 1]
    rows, columns = (
        (np.arange(cells * SAMPLES) * 2 + 1) * length // (2 * cells * SAMPLES)
        for cells, length in zip((ROWS, COLUMNS), plane.shape, strict=True)
    )
    samples = plane[rows][:, columns].reshape(ROWS, SAMPLES, COLUMNS, SAMPLES)
    means: Thumbnail = samples.mean(axis=(1, 3), dtype=np.float32)
    return means


def _change(before: Thumbnail, now: Thumbnail) -> float:
    """0 for the same picture, though brighter or moved; about 1 for another."""
    change = 1 - _correlation(before, now)
    if change <= STILL:
        return change
    return min(1 - _correlation(a, b) for a, b in _overlaps(before, now))


def _overlaps(before: Thumbnail, now: Thumbnail) -> Iterator[tuple[Thumbnail, Thumbnail]]:
    """What both show if the camera moved by each of the shifts."""
    for dy in range(-SHIFTS[0], SHIFTS[0] + 1):
        for dx in range(-SHIFTS[1], SHIFTS[1] + 1):
            top, left = max(dy, 0), max(dx, 0)
            bottom, right = ROWS + min(dy, 0), COLUMNS + min(dx, 0)
            yield before[top:bottom, left:right], now[top - dy : bottom - dy, left - dx : right - dx]


def _correlation(a: Thumbnail, b: Thumbnail) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).mean() / (np.sqrt((a * a).mean() * (b * b).mean()) + 1))
