"""What `--list` and `--plan` print: nothing is asked of anybody for it."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from builder.bake.bake import lying, still_to_come, to_bake
from builder.bake.manifests import read_all
from builder.bake.sources import Facts, Origin
from builder.bake.wanted import Entry, Wanted, everything
from builder.bake.wording import BakeError, number_of_files, size, table
from engine.catalog import Catalog, Model


def listing(catalog: Catalog, folder: Path | None) -> str:
    """Every model and LoRA, one to a line; with a folder, whether it is baked there."""
    here = () if folder is None else (f"in {folder}",)
    rows = [("NAME", "DOWNLOAD", "GRAPHICS MEMORY", "LICENCE", *here, "WHAT")]
    for entry in everything(catalog):
        state = () if folder is None else (_state(entry, folder),)
        total = entry.download_bytes if isinstance(entry, Model) else entry.file.bytes
        licences = ", ".join(dict.fromkeys(file.source.licence for file in entry.files))
        rows.append((entry.name, _about(entry, total), _needs(entry), licences, *state, entry.description))
    return table(rows)


def plan(
    entries: Sequence[Entry], besides: Sequence[Entry], folder: Path | None, origin: Origin, converting: bool
) -> str:
    """The files that a bake would bring, with sizes, sums, licence and source. Raises BakeError."""
    place = folder or Path()
    manifests = read_all(folder) if folder else {}
    wanted = to_bake(entries, besides, place, manifests)
    here = lying(wanted, place, manifests)
    rows = [("FILE", "SIZE", "SHA256", "LICENCE", "FROM")]
    for key, each in wanted.items():
        source = "already there" if key in here else _source(each, origin)
        digest = each.file.sha256 or "recorded on the first download"
        rows.append((key, size(each.file.bytes), digest, each.file.source.licence, source))
    coming = [each for key, each in wanted.items() if key not in here]
    return "\n".join((table(rows), *_sums(coming, folder, converting)))


def _sums(coming: Sequence[Wanted], folder: Path | None, converting: bool) -> Iterable[str]:
    known = sum(each.file.bytes or 0 for each in coming)
    unknown = sum(each.file.bytes is None for each in coming)
    more = f", and {unknown} of unknown size" if unknown else ""
    yield f"{number_of_files(len(coming))} to download: {size(known)}{more}"
    if folder is not None:
        needed = sum(still_to_come(folder / each.file.key, each.file.bytes) for each in coming)
        nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        yield f"disk: {size(needed)} needed, {size(shutil.disk_usage(nearest).free)} free at {folder}"
    if converting:
        yield "converting needs as much again as the networks have, until the published files are removed"


def _source(wanted: Wanted, origin: Origin) -> str:
    file = wanted.file
    try:
        return " or ".join(
            way.where for way in origin.ways(wanted, Facts(file.bytes, file.sha256, file.source.revision))
        )
    except BakeError as error:
        return f"NOWHERE: {str(error).removeprefix(file.key + ': ')}"


def _state(entry: Entry, folder: Path) -> str:
    manifests = read_all(folder)
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
