"""The one folder that holds all files of a job, gone with it whatever happens."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import DiskFull

PREFIX = "restoration-job-"


@contextmanager
def scratch_dir(root: Path | None) -> Iterator[Path]:
    """A new folder under `root`, or under the system's temporary folder; removed at the end."""
    if root is not None:
        root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=root, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep(root: Path | None) -> int:
    """Remove what jobs of a killed worker left behind; how many folders went. Only for a worker that runs alone."""
    left = list(Path(root or tempfile.gettempdir()).glob(f"{PREFIX}*"))
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


def require_room(folder: Path, needed: int) -> None:
    """Raises DiskFull when the disk of `folder` has less than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(
            f"the result needs about {needed / 1e6:.0f} MB and the worker's disk has {free / 1e6:.0f} MB left",
            hint="ask for a smaller size or fewer frames, or give the endpoint a larger container disk",
        )
