"""What a folder of baked files holds: `manifests/<model>.json`, one for each model or LoRA.

One each, so that several bakes, or layers of an image, can share a folder. Each lists files by their key in the
catalog, which is their place in the folder, too. Nothing in them depends on when or where they were written.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engine.entries import confined

FOLDER = "manifests"


class NotAManifest(Exception):
    """A manifest that cannot be read: one sentence that says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Baked:
    """One verified file; of a repository's the commit that it is of.

    converted_from, converted_form: of a converted network the published files with their sha256, and the form that it
    was brought into.
    """

    bytes: int
    sha256: str
    licence: str
    revision: str | None = None
    converted_from: Mapping[str, str] | None = None
    converted_form: str | None = None

    def lies_at(self, path: Path) -> bool:
        """True where a file of that size is at that place."""
        return path.is_file() and path.stat().st_size == self.bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one model or LoRA by their key in the catalog."""

    model: str
    files: Mapping[str, Baked]


def manifest_path(folder: Path, model: str) -> Path:
    """Where the manifest of a model or LoRA lies in a folder."""
    return folder / FOLDER / f"{model}.json"


def read(path: Path) -> Manifest:
    """One manifest. Raises NotAManifest."""
    try:
        content = json.loads(path.read_text("utf-8"))
        return Manifest(str(content["model"]), {key: _baked(key, entry) for key, entry in content["files"].items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise NotAManifest(f"{path} is not a manifest of baked files: {reason}; bake that model again") from error


def read_all(folder: Path, broken: Callable[[str], None]) -> dict[str, Manifest]:
    """Every manifest of a folder, by model; `broken` is told of those that cannot be read."""
    found = {}
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            manifest = read(path)
        except NotAManifest as error:
            broken(str(error))
        else:
            found[manifest.model] = manifest
    return found


def write(folder: Path, manifest: Manifest) -> None:
    """Write or replace a model's manifest; nobody ever reads half of it."""
    files = {key: {k: v for k, v in asdict(entry).items() if v is not None} for key, entry in manifest.files.items()}
    write_json(manifest_path(folder, manifest.model), {"model": manifest.model, "files": files})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Sorted, beside and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        making.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def _baked(key: str, entry: Mapping[str, Any]) -> Baked:
    if not confined(key):
        raise ValueError(f"`{key}` leads out of the folder")
    known = {field.name for field in fields(Baked)}  # a later version may tell more
    baked = Baked(**{name: value for name, value in entry.items() if name in known})
    if not (isinstance(baked.bytes, int) and isinstance(baked.sha256, str)):
        raise TypeError(f"`{key}` has no size or no sha256")
    return baked
