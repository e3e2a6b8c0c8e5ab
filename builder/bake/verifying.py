"""`--verify`: every baked file read again, and held against its manifest and the catalog."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.bake.bake import known_files, to_bake
from builder.bake.converting import converted_key, current, own_files
from builder.bake.errors import BakeError
from builder.bake.progress import Display
from builder.bake.together import together
from builder.bake.wanted import Entry
from builder.bake.weighing import digest
from engine.amounts import size
from engine.catalog import File
from engine.manifests import Baked, Manifest, read_all
from engine.storage.hooks import Check


def verify(
    folder: Path,
    entries: Sequence[Entry],
    besides: Sequence[Entry],
    known: Iterable[Entry],
    display: Display,
    jobs: int,
) -> list[str]:
    """A sentence for everything that is wrong; of the named entries, or of all manifests. Raises BakeError.

    known: every entry of the catalog, which files of the manifests are held against.
    """
    failures: list[str] = []
    manifests = read_all(folder, failures.append)
    if not manifests and not failures:
        raise BakeError(f"nothing is baked in {folder}: it has no manifests")
    baked = known_files(manifests)
    failures += _lacking(folder, entries, besides, manifests)
    for entry in entries or known:
        made = baked.get(converted_key(entry))
        if made is not None and not current(made, own_files(entry)):
            failures.append(f"{converted_key(entry)}: is not what would be converted now; bake {entry.name} again")
    files = {key: each for key, each in baked.items() if key in _keys(entries, manifests)} if entries else baked
    published = {file.key: file for entry in known for file in entry.files}

    def wrong(key: str, check: Check) -> str | None:
        return _wrong(folder, key, files[key], published.get(key), display, check)

    found = together(files, wrong, jobs, display.say)
    return [*failures, *filter(None, found.values())]


def _keys(entries: Iterable[Entry], manifests: Mapping[str, Manifest]) -> set[str]:
    """Of all that entries are made of, whichever manifest lists it."""
    keys = {file.key for entry in entries for file in entry.files}
    return keys | {key for entry in entries if entry.name in manifests for key in manifests[entry.name].files}


def _lacking(
    folder: Path, entries: Iterable[Entry], besides: Sequence[Entry], manifests: Mapping[str, Manifest]
) -> Iterator[str]:
    listed = known_files(manifests)
    for entry in entries:
        needed = set(to_bake([entry], besides, folder, manifests))
        if converted_key(entry) in listed:
            needed -= {file.key for file in own_files(entry)}
        if not (lacking := needed - listed.keys()):
            continue
        if entry.name in manifests:
            yield f"{entry.name}: no manifest lists {', '.join(sorted(lacking))}; bake it again"
        else:
            yield f"{entry.name}: is not baked in {folder}: there is no manifests/{entry.name}.json"


def _wrong(folder: Path, key: str, baked: Baked, published: File | None, display: Display, check: Check) -> str | None:
    path = folder / key
    if published and published.sha256 not in (None, baked.sha256):
        return f"{key}: the manifest says sha256 {baked.sha256}, the catalog {published.sha256}; bake it again"
    if not path.is_file():
        return f"{key}: is not at {path}; bake it again"
    if (there := path.stat().st_size) != baked.bytes:
        return f"{key}: {path} has {there:,} bytes, {baked.bytes:,} expected; bake it again"
    with display.follow(key) as progress:
        found = digest(path, check, progress)
    if found != baked.sha256:
        return f"{key}: {path} has sha256 {found}, {baked.sha256} expected; bake it again"
    display.say(f"{key}: {size(baked.bytes)}, sha256 {found[:12]}... as it should be")
    return None
