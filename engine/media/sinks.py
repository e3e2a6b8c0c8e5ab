"""What every way of writing a file offers to the writer's thread, and the errors they share."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from engine.errors import DiskFull
from engine.frames import Frame
from engine.media.info import Clip, MediaInfo
from engine.notes import Note

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Source:
    """The file that the pictures come from, as far as the output takes more than pictures from it."""

    path: Path
    info: MediaInfo
    clip: Clip

    @property
    def cut(self) -> bool:
        """True if the pictures are a part of the source: the output then begins at zero."""
        return self.clip != Clip()

    @property
    def has_tracks(self) -> bool:
        """False for pictures and animations, which hold nothing beside what is seen."""
        return self.info.kind == "video" and not self.info.animated


class Sink(Protocol):
    """A file being written. Made open; then any number of `write`, then either `finish` or `abort`."""

    notes: list[Note]
    audio_tracks: int

    def write(self, frame: Frame) -> None:
        """Add one frame; times rise."""

    def finish(self) -> None:
        """Write what is held back and close the file: whole and playable."""

    def abort(self) -> None:
        """Let go of everything, quickly. The file is worthless and may be gone already."""


@contextmanager
def disk_full_told() -> Iterator[None]:
    """Raise DiskFull where the operating system says that there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull("the worker's disk is full; a shorter clip or a smaller output would fit") from error
        raise


class Ticks:
    """Presentation times in whole units of a time base: rounded, moved by `shift`, always rising."""

    def __init__(self, base: Fraction) -> None:
        self.base = base
        self.shift = Fraction(0)
        self._last: int | None = None

    def stamp(self, time: Fraction) -> int:
        ticks = round((time - self.shift) / self.base)
        if self._last is not None:
            ticks = max(ticks, self._last + 1)
        self._last = ticks
        return ticks

    def length(self, frame: Frame, fallback: Fraction) -> int:
        """The frame's duration in units, at least one."""
        return max(1, round((frame.duration or fallback) / self.base))
