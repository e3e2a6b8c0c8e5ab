"""What a folder of baked files holds: `manifests/<model>.json`, one for each model or LoRA.

One each, so that several bakes, or layers of an image, can share a folder. Nothing in them depends on when or where
they were written, and `fix_times` gives files and folders a fixed time, so that the same weights make the same layer.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder.bake.wording import BakeError

FOLDER = "manifests"
TIME = 946_684_800  # 2000-01-01, the time of every baked file


@dataclass(frozen=True, slots=True)
class Baked:
    """One verified file: `path` relative to the folder, and for files of a repository the commit they are of."""

    path: str
    bytes: int
    sha256: str
    licence: str
    revision: str | None = None

    def lies_in(self, folder: Path) -> bool:
        """True where a file of that size is at that place."""
        path = folder / self.path
        return path.is_file() and path.stat().st_size == self.bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one model or LoRA by their key in the catalog."""

    model: str
    files: Mapping[str, Baked]


def read(path: Path) -> Manifest:
    """One manifest. Raises BakeError."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return Manifest(content["model"], {key: Baked(**entry) for key, entry in content["files"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BakeError(f"{path} is not a manifest of baked files: {error}; bake that model again") from error


def read_all(folder: Path) -> dict[str, Manifest]:
    """Every manifest of a folder, by model. Raises BakeError."""
    return {each.model: each for each in map(read, sorted((folder / FOLDER).glob("*.json")))}


def write(folder: Path, manifest: Manifest) -> Path:
    """Write or replace a model's manifest; nobody ever reads half of it."""
    path = folder / FOLDER / f"{manifest.model}.json"
    files = {key: {k: v for k, v in asdict(entry).items() if v is not None} for key, entry in manifest.files.items()}
    write_json(path, {"model": manifest.model, "files": files})
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Sorted, beside and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        making.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def fix_times(folder: Path, paths: Iterable[Path]) -> None:
    """Give files and the folders above them, up to `folder`, the fixed time."""
    found = {place for path in paths for place in (path, *path.parents) if place.is_relative_to(folder)}
    for place in sorted(found, reverse=True):
        with suppress(PermissionError):  # a folder that we may write into and do not own, such as a volume's root
            os.utime(place, (TIME, TIME))
