"""Results into folders: written beside, flushed to the disk, then renamed, so that nobody ever sees half a file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import NoDestination
from engine.storage.disk import demand_room, naming_a_full_disk
from engine.storage.hooks import PIECE, Check, Progress
from engine.storage.patience import Transient


def check_folder(folder: Path) -> None:
    """Raises NoDestination unless a file can be made there, or in the nearest folder above that exists already."""
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise NoDestination("the folder of the destination cannot be written to") from error


def place_file(path: Path, folder: Path, name: str, check: Check, progress: Progress) -> Path:
    """Copy a file into a folder under a name, replacing what has it. Raises DiskFull, NoDestination, Transient."""
    total, done = path.stat().st_size, 0
    with _making(folder, name, total) as making, path.open("rb") as source, making.open("wb") as copy:
        while piece := source.read(PIECE):
            check()
            copy.write(piece)
            done += len(piece)
            progress(done, total)
        copy.flush()
        os.fsync(copy.fileno())
    return folder / name


def place_bytes(body: bytes, folder: Path, name: str) -> None:
    """The same for a few bytes."""
    with _making(folder, name, len(body)) as making, making.open("wb") as copy:
        copy.write(body)
        copy.flush()
        os.fsync(copy.fileno())


@contextmanager
def _making(folder: Path, name: str, size: int) -> Iterator[Path]:
    """A `.part` file beside the final one, which takes its place when the block ends well and vanishes when not."""
    making = folder / f"{name}.part"
    try:
        with naming_a_full_disk():
            folder.mkdir(parents=True, exist_ok=True)
            demand_room(folder, size)
            yield making
            making.replace(folder / name)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise NoDestination("the folder of the destination cannot be written to") from error
    except OSError as error:  # a network volume that hiccups
        raise Transient("the folder of the destination failed while it was written to") from error
    finally:
        with suppress(OSError):
            making.unlink(missing_ok=True)
