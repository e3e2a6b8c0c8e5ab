"""One bake at a time for each file: its `.part` itself is the lock, so that nothing is left behind but files."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sole(part: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a file's `.part` alone among processes; `waiting` is called before a wait for whoever has it.

    The lock is on the file and not on its name: when the other one finished, its `.part` has become the file, and the
    next one is made. A `.part` with nothing in it does not stay.
    """
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(handle, waiting)
            if not _is(part, handle):
                continue
            try:
                yield
            finally:
                if _is(part, handle) and not os.fstat(handle).st_size:
                    part.unlink()
            return
        finally:
            os.close(handle)


def _lock(handle: int, waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        # a file system without locks: two bakes at once would be at odds there, one alone is not


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
