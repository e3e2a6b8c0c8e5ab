"""`--verify`: every baked file read again, and held against its manifest and the catalog."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.bake.bake import to_bake
from builder.bake.manifests import Baked, Manifest, read_all
from builder.bake.progress import Display
from builder.bake.together import together
from builder.bake.wanted import Entry
from builder.bake.weighing import digest
from builder.bake.wording import BakeError, size
from engine.catalog import File
from engine.storage.hooks import Check


def verify(
    folder: Path,
    entries: Sequence[Entry],
    besides: Sequence[Entry],
    published: Mapping[str, File],
    display: Display,
    jobs: int,
) -> list[str]:
    """A sentence for everything that is wrong; of the named entries, or of all manifests. Raises BakeError."""
    manifests = read_all(folder)
    if not manifests:
        raise BakeError(f"nothing is baked in {folder}: it has no manifests")
    chosen = {entry.name: manifests[entry.name] for entry in entries if entry.name in manifests}
    failures = list(_lacking(folder, entries, besides, manifests))
    files = {
        key: each for manifest in (chosen if entries else manifests).values() for key, each in manifest.files.items()
    }
    found = together(
        files, lambda key, check: _wrong(folder, key, files[key], published.get(key), display, check), jobs
    )
    return [*failures, *filter(None, found.values())]


def _lacking(
    folder: Path, entries: Iterable[Entry], besides: Sequence[Entry], manifests: Mapping[str, Manifest]
) -> Iterator[str]:
    for entry in entries:
        needed = to_bake([entry], besides, folder, {})
        listed = manifests[entry.name].files if entry.name in manifests else {}
        if needed and not listed:
            yield f"{entry.name}: is not baked in {folder}: there is no manifests/{entry.name}.json"
        elif lacking := to_bake([entry], besides, folder, manifests).keys() - listed.keys():
            yield f"{entry.name}: its manifest does not list {', '.join(sorted(lacking))}; bake it again"


def _wrong(folder: Path, key: str, baked: Baked, published: File | None, display: Display, check: Check) -> str | None:
    path = folder / baked.path
    if published and published.sha256 not in (None, baked.sha256):
        return f"{key}: the manifest says sha256 {baked.sha256}, the catalog {published.sha256}; bake it again"
    if not path.is_file():
        return f"{key}: is not at {path}; bake it again"
    if (there := path.stat().st_size) != baked.bytes:
        return f"{key}: {path} has {there:,} bytes, {baked.bytes:,} expected; delete it and bake it again"
    with display.follow(key) as progress:
        found = digest(path, check, progress)
    if found != baked.sha256:
        return f"{key}: {path} has sha256 {found}, {baked.sha256} expected; delete it and bake it again"
    display.say(f"{key}: {size(baked.bytes)}, sha256 {found[:12]}... as it should be")
    return None
