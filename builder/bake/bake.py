"""A whole bake: what is there already, what is to come and whether it fits, all of it at once, and the manifests."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from builder.bake.arrival import Arrivals
from builder.bake.converting import convert, converted_key, current, own_files, room
from builder.bake.errors import BakeError, trouble
from builder.bake.ledger import Ledger
from builder.bake.progress import Display
from builder.bake.sources import Facts, Origin
from builder.bake.together import together
from builder.bake.wanted import Entry, Wanted, files, held, refuse_others
from builder.bake.weighing import digest
from engine.amounts import number_of_files, size
from engine.catalog import Model
from engine.manifests import Baked, Manifest, manifest_path, read_all, write
from engine.storage.hooks import Check

R = TypeVar("R")
TIME = 946_684_800  # 2000-01-01, the time of every baked file: the same weights make the same layer of an image


@dataclass(frozen=True, slots=True)
class Outcome:
    """What each model or LoRA is made of now, and one sentence for everything that failed."""

    manifests: tuple[Manifest, ...]
    failures: tuple[str, ...]


@dataclass
class Bake:
    """Brings the files of `entries` into `folder`, but those that `besides` bring to another one."""

    entries: Sequence[Entry]
    folder: Path
    origin: Origin
    ledger: Ledger
    display: Display
    besides: Sequence[Entry] = ()
    jobs: int = 4
    converting: bool = False
    _failures: dict[str, str] = field(default_factory=dict, init=False)

    def run(self) -> Outcome:
        """Everything that can be brought, whatever fails beside it. Raises BakeError where nothing can be begun."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self._sound(read_all(self.folder, lambda broken: self.display.say(f"passed over: {broken}")))
            wanted = to_bake(self.entries, self.besides, self.folder, before)
            refuse_others(wanted, self.entries, before)
            here = self._unchanged(lying(wanted, self.folder, before))
            baked = here | self._brought(wanted, [key for key in wanted if key not in here])
            made = tuple(filter(None, [self._made(entry, baked, before) for entry in self.entries]))
            fix_times(self.folder, self._touched(made))
        except OSError as error:
            raise BakeError(trouble(error, self.folder)) from error
        return Outcome(made, tuple(self._failures.values()))

    def _sound(self, manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
        """The manifests, without the converted networks of our entries that are to be made anew."""
        listed = {
            converted_key(entry): manifests[entry.name].files[converted_key(entry)]
            for entry in self.entries
            if _stands_converted(entry, self.folder, manifests)
        }
        lost = {converted_key(entry) for entry in self.entries} - self._unchanged(listed).keys()
        return {
            name: replace(manifest, files={key: each for key, each in manifest.files.items() if key not in lost})
            for name, manifest in manifests.items()
        }

    def _unchanged(self, listed: Mapping[str, Baked]) -> dict[str, Baked]:
        """Those whose bytes, all read again, are still what a manifest says of them."""

        def same(key: str, check: Check) -> bool:
            good = False
            with suppress(FileNotFoundError), self.display.follow(f"{key} (checking)") as progress:
                good = digest(self.folder / key, check, progress) == listed[key].sha256
            self.display.say(f"{key}: already there, verified" if good else f"{key}: has changed since it was baked")
            return good

        return {key: listed[key] for key, good in together(listed, same, self.jobs, self.display.say).items() if good}

    def _brought(self, wanted: Mapping[str, Wanted], lacking: Iterable[str]) -> dict[str, Baked]:
        facts = self._each(lacking, lambda key, check: self.origin.facts(wanted[key]))
        self._demand_room(wanted, facts)
        arrivals = Arrivals(self.folder, self.origin, self.ledger, self.display)
        return self._each(facts, lambda key, check: arrivals.bring(wanted[key], facts[key], check))

    def _demand_room(self, wanted: Mapping[str, Wanted], facts: Mapping[str, Facts]) -> None:
        coming = {key: known.bytes for key, known in facts.items()}
        needed = room_needed(self.folder, coming, wanted, self.converting)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise BakeError(too_small(needed, free, self.folder))
        if facts:
            told = f"{number_of_files(len(facts))} to come, {size(needed)}{unsized(coming, wanted)}"
            self.display.say(f"{told}; {size(free)} are free at {self.folder}")

    def _each(self, keys: Iterable[str], task: Callable[[str, Check], R]) -> dict[str, R]:
        """What the task returns for each key. A BakeError is noted, and the others go on."""

        def work(key: str, check: Check) -> R | None:
            try:
                return task(key, check)
            except BakeError as error:
                self._failed(key, error)
                return None

        done = together(keys, work, self.jobs, self.display.say)
        return {key: each for key, each in done.items() if each is not None}

    def _failed(self, what: str, error: BakeError) -> None:
        self._failures[what] = str(error)
        self.display.say(f"FAILED {error}")

    def _made(self, entry: Entry, baked: Mapping[str, Baked], before: Mapping[str, Manifest]) -> Manifest | None:
        """The manifest of an entry that is whole, written; None where files failed or none are to be baked."""
        found = self._whole(entry, baked, before)
        if found is None:
            return None
        if not found:
            self.display.say(f"{entry.name}: nothing to bake, it comes with the code or lies in another layer")
            return None
        manifest = Manifest(entry.name, self._converted(entry, found))
        write(self.folder, manifest)
        self._clear(entry, manifest, before)
        return manifest

    def _whole(
        self, entry: Entry, baked: Mapping[str, Baked], before: Mapping[str, Manifest]
    ) -> Mapping[str, Baked] | None:
        """All that an entry is made of here; None where something of it failed."""
        old = before[entry.name].files if entry.name in before else {}
        needed = to_bake([entry], self.besides, self.folder, before).keys()
        if not needed <= baked.keys():
            return None
        own = {file.key for file in entry.files} | {converted_key(entry)}
        found = {key: each for key, each in old.items() if key in own and each.lies_at(self.folder / key)}
        return found | {key: baked[key] for key in needed}

    def _converted(self, entry: Entry, found: Mapping[str, Baked]) -> Mapping[str, Baked]:
        """The same with its network converted, where that is asked for, there and does not fail."""
        if self.converting and isinstance(entry, Model) and found.keys() >= {file.key for file in entry.network}:
            try:
                return convert(entry, self.folder, found, self.display)
            except BakeError as error:
                self._failed(entry.name, error)
        return found

    def _touched(self, made: Iterable[Manifest]) -> Iterator[Path]:
        """The files of those manifests, they themselves, and folders that a conversion may have left empty."""
        for manifest in made:
            yield manifest_path(self.folder, manifest.model)
            yield from (self.folder / key for key in manifest.files)
        keys = {key for entry in self.entries for key in (converted_key(entry), *(file.key for file in entry.files))}
        yield from (folder for key in keys if (folder := (self.folder / key).parent).is_dir())

    def _clear(self, entry: Entry, manifest: Manifest, before: Mapping[str, Manifest]) -> None:
        """Remove the published network that a converted one stands for, or the converted one that no longer does."""
        network = {file.key for file in own_files(entry)}
        others = {file.key for other in self.entries if other is not entry for file in other.files}
        others |= {key for name, other in before.items() if name != entry.name for key in other.files}
        gone = network - others if converted_key(entry) in manifest.files else {converted_key(entry)}
        for key in gone if network else ():
            (self.folder / key).unlink(missing_ok=True)  # another bake may have done so


def to_bake(
    entries: Iterable[Entry], besides: Iterable[Entry], folder: Path, manifests: Mapping[str, Manifest]
) -> dict[str, Wanted]:
    """The files that entries need in a folder, but networks that lie there converted. Raises BakeError."""
    entries = list(entries)
    wanted = files(entries, besides)
    known = known_files(manifests)
    needed = {file.key for entry in entries for file in entry.files if not _stands_converted(entry, folder, manifests)}
    needed |= {file.key for entry in entries for file in entry.files if file not in own_files(entry)}
    return {key: Wanted(held(each.file, known.get(key)), each.entry) for key, each in wanted.items() if key in needed}


def lying(wanted: Mapping[str, Wanted], folder: Path, manifests: Mapping[str, Manifest]) -> dict[str, Baked]:
    """Those that are there: listed in a manifest with the digest that they must have, and of the listed size."""
    known = known_files(manifests)
    return {
        key: baked
        for key, each in wanted.items()
        if key in known
        and (baked := known[key]).lies_at(folder / key)
        and each.file.sha256 in (None, baked.sha256)
        and each.file.bytes in (None, baked.bytes)
    }


def known_files(manifests: Mapping[str, Manifest]) -> dict[str, Baked]:
    """Every file of those manifests by its key."""
    return {key: each for manifest in manifests.values() for key, each in manifest.files.items()}


def still_to_come(path: Path, total: int | None) -> int:
    """How many bytes of a file are yet to be written, as far as its size is known."""
    part = path.with_name(f"{path.name}.part")
    return max(0, (total or 0) - (part.stat().st_size if part.is_file() else 0))


def room_needed(folder: Path, coming: Mapping[str, int | None], wanted: Mapping[str, Wanted], converting: bool) -> int:
    """How many bytes are yet to be written, as far as they are known; `coming` says how large those are that come.

    What nobody tells the size of counts by its estimate. Networks are converted one after the other, and what was
    published is removed after each.
    """
    needed = sum(
        still_to_come(folder / key, wanted[key].estimate if total is None else total) for key, total in coming.items()
    )
    networks = {each.entry for each in wanted.values() if each.file.key in {f.key for f in own_files(each.entry)}}
    return needed + (max(map(room, networks), default=0) if converting else 0)


def unsized(coming: Mapping[str, int | None], wanted: Mapping[str, Wanted]) -> str:
    """How many of those files `room_needed` does not count, to be said behind a sum."""
    count = sum(total is None and wanted[key].estimate is None for key, total in coming.items())
    return f", and {count} of unknown size" if count else ""


def too_small(needed: int, free: int, folder: Path) -> str:
    """What to say where there is less room than needed."""
    return f"needs {size(needed)}, has {size(free)} at {folder}; make room, or bake fewer models"


def fix_times(folder: Path, paths: Iterable[Path]) -> None:
    """Give files and the folders above them, up to `folder`, the fixed time."""
    found = {place for path in paths for place in (path, *path.parents) if place.is_relative_to(folder)}
    for place in sorted(found, reverse=True):
        with suppress(PermissionError):  # a folder that we may write into and do not own, such as a volume's root
            os.utime(place, (TIME, TIME))


def _stands_converted(entry: Entry, folder: Path, manifests: Mapping[str, Manifest]) -> bool:
    """True where its network lies there as one that was converted from what the catalog has."""
    manifest, key = manifests.get(entry.name), converted_key(entry)
    made = manifest.files.get(key) if manifest else None
    return made is not None and made.lies_at(folder / key) and current(made, own_files(entry))
