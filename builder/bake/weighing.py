"""A `.part` that is weighed while it is written: its size and digest are known when it is whole."""

import hashlib
import os
from pathlib import Path
from typing import Self

from builder.bake.errors import BakeError
from builder.bake.likely import unlikely
from engine.storage.disk import naming_a_full_disk
from engine.storage.hooks import PIECE, Check, Progress, unchecked, unseen
from engine.storage.part import Part
from engine.storage.sources import Fetched, Limits

UNLIMITED = Limits(2**63, ())
IMPOSTORS = {  # what comes in place of weights, by how it begins
    b"<!doctype html": "a web page (a login, an error, or a page about the file)",
    b"<html": "a web page (a login, an error, or a page about the file)",
    b"<?xml": "an XML document (a bucket's error)",
    b"version https://git-lfs.github.com": "a Git LFS pointer (a checkout without `git lfs pull`)",
}


class WrongBytes(BakeError):
    """What came is not the file that was asked for."""


class Weighed(Part):
    """A part of one wanted file, which goes on behind what an earlier run left. Raises WrongBytes as early as it can.

    wanted: the size that the file must have, None where nobody knows. where: the place it comes from, for a person.
    """

    def __init__(self, path: Path, wanted: int | None, check: Check, progress: Progress) -> None:
        super().__init__(path.parent, path.name, UNLIMITED, check=check, progress=progress, keep=True)
        self.name = path.name
        self._wanted = wanted
        self._sum = hashlib.sha256()

    def __enter__(self) -> Self:
        super().__enter__()
        if self._wanted is not None and self.size > self._wanted:
            self.restart()
        try:
            for piece in self.written():
                self._check()
                self._sum.update(piece)
        except BaseException:  # `with` closes only what was entered
            self._file.close()
            raise
        return self

    @property
    def sha256(self) -> str:
        """Of what is there."""
        return self._sum.hexdigest()

    def write(self, piece: bytes) -> int:
        if not self.size:
            self._refuse_impostor(piece)
        self.demand_size(self.total)
        count = super().write(piece)
        self._sum.update(piece)
        return count

    def restart(self) -> None:
        super().restart()
        self._sum = hashlib.sha256()

    def finish(self) -> Fetched:
        """Named only when it is on the disk itself, and nothing else is: a volume may refuse bytes as late as that."""
        with naming_a_full_disk():
            self._file.flush()
            os.fsync(self._file.fileno())
        sent, there = self.size, os.fstat(self._file.fileno()).st_size
        if there != sent:  # only what went through this process was weighed, and where nothing locks others write, too
            self.restart()
            raise WrongBytes(f"sent {sent:,} bytes and {there:,} are there: another bake writes the same file")
        return super().finish()

    def demand_size(self, size: int | None) -> None:
        """Raises WrongBytes where that is not the size that the file must have."""
        if size is not None and self._wanted not in (None, size):
            raise WrongBytes(f"has {size:,} bytes, {self._wanted:,} expected")

    def demand_likely(self, estimate: int | None) -> None:
        """For what nobody tells a digest of: raises WrongBytes, and forgets what there is, where it is no weights."""
        self._file.flush()
        if objection := unlikely(self._making, self.name, estimate):
            self.restart()
            raise WrongBytes(f"{objection}, and there is no sha256 to hold it to")

    def _refuse_impostor(self, piece: bytes) -> None:
        head = piece[:256].lstrip().lower()
        for mark, what in IMPOSTORS.items():
            if head.startswith(mark):
                raise WrongBytes(f"is {what}, not the file")


def digest(path: Path, check: Check = unchecked, progress: Progress = unseen) -> str:
    """A file's sha256."""
    total, done, found = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            check()
            found.update(piece)
            done += len(piece)
            progress(done, total)
    return found.hexdigest()
