"""A whole bake: what is there already, what is to come and whether it fits, all of it at once, and the manifests."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from builder.bake.arrival import Arrivals, trouble
from builder.bake.converting import Convert, convert, converted_key, own_files
from builder.bake.ledger import Ledger
from builder.bake.manifests import Baked, Manifest, fix_times, read_all, write
from builder.bake.progress import Display
from builder.bake.sources import Facts, Origin
from builder.bake.together import together
from builder.bake.wanted import Entry, Wanted, files, held, refuse_others
from builder.bake.wording import BakeError, number_of_files, size
from engine.storage.hooks import Check

R = TypeVar("R")


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
    converter: Convert | None = None
    _failures: dict[str, str] = field(default_factory=dict, init=False)

    def run(self) -> Outcome:
        """Everything that can be brought, whatever fails beside it. Raises BakeError where nothing can be begun."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = read_all(self.folder)
            wanted = to_bake(self.entries, self.besides, self.folder, before)
            refuse_others(wanted, self.entries, before)
            here = lying(wanted, self.folder, before)
            for key in here:
                self.display.say(f"{key}: already there, verified")
            baked = here | self._brought({key: each for key, each in wanted.items() if key not in here})
            made = tuple(filter(None, [self._listed(entry, baked, before) for entry in self.entries]))
            written = [self.folder / each.path for manifest in made for each in manifest.files.values()]
            fix_times(self.folder, [*written, *(self.folder / "manifests" / f"{each.model}.json" for each in made)])
        except OSError as error:
            raise BakeError(trouble(error, self.folder)) from error
        return Outcome(made, tuple(self._failures.values()))

    def _brought(self, wanted: Mapping[str, Wanted]) -> dict[str, Baked]:
        facts = self._each(wanted, lambda key, check: self.origin.facts(wanted[key]))
        self._demand_room(wanted, facts)
        arrivals = Arrivals(self.folder, self.origin, self.ledger, self.display)
        return self._each(facts, lambda key, check: arrivals.bring(wanted[key], facts[key], check))

    def _demand_room(self, wanted: Mapping[str, Wanted], facts: Mapping[str, Facts]) -> None:
        needed = sum(still_to_come(self.folder / key, known.bytes) for key, known in facts.items())
        if self.converter:
            needed += sum(each.file.bytes or 0 for each in wanted.values() if each.file in own_files(each.entry))
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise BakeError(f"needs {size(needed)}, has {size(free)} at {self.folder}; make room, or bake fewer models")
        if facts:
            self.display.say(
                f"{number_of_files(len(facts))} to come, {size(needed)}; {size(free)} are free at {self.folder}"
            )

    def _each(self, keys: Iterable[str], task: Callable[[str, Check], R]) -> dict[str, R]:
        """What the task returns for each key. A BakeError is noted, and the others go on."""

        def work(key: str, check: Check) -> R | None:
            try:
                return task(key, check)
            except BakeError as error:
                self._failures[key] = str(error)
                self.display.say(f"FAILED {error}")
                return None

        return {key: each for key, each in together(keys, work, self.jobs).items() if each is not None}

    def _listed(self, entry: Entry, baked: Mapping[str, Baked], before: Mapping[str, Manifest]) -> Manifest | None:
        """The manifest of an entry that is whole, written; None where files failed or none are to be baked."""
        old = before[entry.name].files if entry.name in before else {}
        needed = to_bake([entry], self.besides, self.folder, before).keys()
        if not needed <= baked.keys():
            return None
        own = {file.key for file in entry.files} | {converted_key(entry)}
        found = {key: each for key, each in old.items() if key in own and each.lies_in(self.folder)}
        found |= {key: baked[key] for key in needed}
        if self.converter and (network := own_files(entry)) and all(file.key in found for file in network):
            shared = {file.key for other in self.entries if other is not entry for file in other.files}
            shared |= {key for name, other in before.items() if name != entry.name for key in other.files}
            try:
                found = convert(entry, self.folder, found, shared, self.converter, self.display)
            except BakeError as error:
                self._failures[entry.name] = str(error)
        if not found:
            self.display.say(f"{entry.name}: nothing to bake, it comes with the code or lies in another layer")
            return None
        manifest = Manifest(entry.name, found)
        write(self.folder, manifest)
        return manifest


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
        and (baked := known[key]).lies_in(folder)
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


def _stands_converted(entry: Entry, folder: Path, manifests: Mapping[str, Manifest]) -> bool:
    manifest = manifests.get(entry.name)
    made = manifest.files.get(converted_key(entry)) if manifest else None
    return made is not None and made.lies_in(folder)
