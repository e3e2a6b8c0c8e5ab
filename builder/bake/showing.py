"""What `--list` and `--plan` print: nothing is asked of anybody for it."""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.bake.bake import lying, room_needed, to_bake, too_small, unsized
from builder.bake.errors import BakeError, trouble
from builder.bake.sources import Facts, Origin
from builder.bake.wanted import Entry, Wanted, everything
from engine.amounts import number_of_files, size
from engine.catalog import Catalog, Model
from engine.manifests import Manifest, read_all


def listing(catalog: Catalog, folder: Path | None) -> str:
    """Every model and LoRA, one to a line; with a folder, whether it is baked there."""
    here = () if folder is None else (f"in {folder}",)
    manifests = read_all(folder, broken=lambda text: None) if folder else {}
    rows = [("NAME", "DOWNLOAD", "GRAPHICS MEMORY", "LICENCE", *here, "WHAT")]
    for entry in everything(catalog):
        state = () if folder is None else (_state(entry, folder, manifests),)
        total = entry.download_bytes if isinstance(entry, Model) else entry.file.bytes
        licences = ", ".join(dict.fromkeys(file.source.licence for file in entry.files))
        rows.append((entry.name, _about(entry, total), _needs(entry), licences, *state, entry.description))
    return table(rows)


def plan(
    entries: Sequence[Entry], besides: Sequence[Entry], folder: Path | None, origin: Origin, converting: bool
) -> tuple[str, list[str]]:
    """The files that a bake would bring, with sizes, sums, licence and source; and what it would fail of.

    Raises BakeError.
    """
    broken: list[str] = []
    manifests = read_all(folder, broken.append) if folder else {}
    place = folder or Path()
    wanted = to_bake(entries, besides, place, manifests)
    here = lying(wanted, place, manifests)
    rows = [("FILE", "SIZE", "SHA256", "LICENCE", "FROM")]
    for key, each in wanted.items():
        source = "already there" if key in here else _source(each, origin)
        digest = each.file.sha256 or "recorded on the first download"
        rows.append((key, size(each.file.bytes), digest, each.file.source.licence, source))
    coming = {key: each.file.bytes for key, each in wanted.items() if key not in here}
    download = sum(each or wanted[key].estimate or 0 for key, each in coming.items())
    told = f"{number_of_files(len(coming))} to download: {size(download)}{unsized(coming, wanted)}"
    lines = [*broken, table(rows), told]
    if folder is None:
        return "\n".join(lines), []
    needed, free = room_needed(folder, coming, wanted, converting), _free(folder)
    lines.append(f"disk: {size(needed)} needed{', to convert as well' * converting}, {size(free)} free at {folder}")
    return "\n".join(lines), [too_small(needed, free, folder)] if needed > free else []


def _free(folder: Path) -> int:
    """The bytes that are free where a folder is or can be made. Raises BakeError where it cannot."""
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise BakeError(trouble(NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest)), folder))
    if not os.access(nearest, os.W_OK):
        raise BakeError(trouble(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), folder))
    return shutil.disk_usage(nearest).free


def _source(wanted: Wanted, origin: Origin) -> str:
    file = wanted.file
    try:
        return " or ".join(
            way.where for way in origin.ways(wanted, Facts(file.bytes, file.sha256, file.source.revision))
        )
    except BakeError as error:
        return f"NOWHERE: {str(error).removeprefix(file.key + ': ')}"


def _state(entry: Entry, folder: Path, manifests: Mapping[str, Manifest]) -> str:
    wanted = to_bake([entry], (), folder, manifests)
    if not wanted and entry.name not in manifests:
        return "comes with the code"
    lacking = len(wanted) - len(lying(wanted, folder, manifests))
    if not lacking:
        return "yes"
    return "no" if lacking == len(wanted) else f"{len(wanted) - lacking} of {number_of_files(len(wanted))}"


def _about(entry: Entry, total: int | None) -> str:
    exact = all(file.bytes is not None for file in entry.files)
    return size(total) if exact or total is None else f"about {size(total)}"


def _needs(entry: Entry) -> str:
    needs = entry.needs if isinstance(entry, Model) else None
    return f"{needs.least:,} to {needs.whole:,} MB" if needs else "-"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, in columns; the last column is not padded."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])).rstrip()
        for row in rows
    )
