"""Room on the disk: asked for before a transfer, named when it runs out in the middle of one."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import DiskFull


def demand_room(folder: Path, size: int) -> None:
    """Raises DiskFull when `size` bytes do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DiskFull(f"{size:,} bytes are needed and {free:,} are free; a worker with a larger disk would do")


@contextmanager
def naming_a_full_disk() -> Iterator[None]:
    """Turn the operating system's "no space left" into DiskFull; leave every other error as it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull("the disk ran full while a file was written; a worker with a larger disk would do") from error
