"""A file on its way out, seen by whoever wants to stop or to follow the upload."""

from collections.abc import Iterator
from typing import BinaryIO

from engine.storage.hooks import PIECE, Check, Progress


class Watched:
    """A file being read by an upload: asks `check` at every read and tells how far it is."""

    def __init__(self, file: BinaryIO, total: int, check: Check, progress: Progress) -> None:
        self._file, self._total, self._check, self._progress = file, total, check, progress

    def read(self, size: int = -1) -> bytes:
        self._check()
        piece = self._file.read(size)
        self._progress(self._file.tell(), self._total)
        return piece

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(PIECE):
            yield piece
