"""A source on its way in: a `.part` file that becomes the real one when it is whole, or disappears."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from engine.storage.disk import demand_room, naming_a_full_disk
from engine.storage.hooks import PIECE, Check, Progress, unchecked, unseen
from engine.storage.sources import Fetched, Limits


class Part:
    """Counts what is written, stops at the limit, and leaves nothing behind unless `finish` was reached.

    `size` is what has been written, `total` what is expected, None while unknown. Every write asks `check` first, so
    a cancelled job stops within one piece. Raises SourceTooLarge, DiskFull and whatever `check` raises. With `keep`
    it goes on behind what an earlier run left, and leaves what there is to the next.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        limits: Limits,
        *,
        check: Check = unchecked,
        progress: Progress = unseen,
        keep: bool = False,
    ) -> None:
        self.size = 0
        self.total: int | None = None
        self._furthest = 0
        self._path = folder / name
        self._making = folder / f"{name}.part"
        self._limits, self._check, self._progress = limits, check, progress
        self._keep = keep

    def __enter__(self) -> Self:
        self._file: BinaryIO = self._making.open("ab" if self._keep else "wb")
        self.size = self._furthest = self._file.tell()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError:
            if error is None:
                raise  # on a full disk `close` fails again over the bytes that `write` could not place
        finally:
            if not self._keep:
                self._making.unlink(missing_ok=True)

    def expect(self, total: int | None) -> None:
        """Note how many bytes there will be in all, and refuse now what could not end well."""
        if total is not None and self.size > total:
            self.restart()  # what an earlier run left is of another file
        self.total = total
        if total is not None:
            self._limits.demand_fit(total)
            demand_room(self._making.parent, total - self.size)

    def write(self, piece: bytes) -> int:
        self._check()
        self._limits.demand_fit(self.size + len(piece))
        with naming_a_full_disk():
            self._file.write(piece)
        self.size += len(piece)
        self._progress(self.size, self.total)
        return len(piece)

    def written(self) -> Iterator[bytes]:
        """What is there already, piece by piece: nothing, unless an earlier run left it."""
        if self.size:
            self._file.flush()
            with self._making.open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece

    def progressed(self) -> bool:
        """True when a piece more than at any earlier call has arrived: bounds the tries by the size of the file."""
        further = self.size >= self._furthest + PIECE
        self._furthest = max(self._furthest, self.size)
        return further

    def restart(self) -> None:
        """Forget what was written: the other side cannot or should not go on where it broke off."""
        if self.size:
            with naming_a_full_disk():
                self._file.seek(0)
                self._file.truncate()
        self.size, self.total = 0, None

    def finish(self) -> Fetched:
        """The file is whole: give it its name."""
        with naming_a_full_disk():
            self._file.flush()
        self._making.rename(self._path)
        return Fetched(self._path, self._path.name, self.size)
