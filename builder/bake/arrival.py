"""One file into the folder: found there, or fetched, weighed, and only then given its name."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from builder.bake.errors import BakeError, no_room, shown, trouble
from builder.bake.ledger import Ledger
from builder.bake.progress import Display
from builder.bake.sole import sole
from builder.bake.sources import Facts, Origin, Way
from builder.bake.wanted import Wanted
from builder.bake.weighing import Weighed, WrongBytes, digest
from engine.amounts import size
from engine.catalog import File
from engine.errors import Cancelled, DiskFull, JobError, SourceForbidden, SourceNotFound
from engine.manifests import Baked
from engine.storage.hooks import Check


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Brings files from an origin into a folder; what the catalog did not know of them goes into the ledger."""

    folder: Path
    origin: Origin
    ledger: Ledger
    display: Display

    def bring(self, wanted: Wanted, facts: Facts, check: Check) -> Baked:
        """The file, verified in its place. Raises BakeError, Cancelled."""
        file = wanted.file
        part = self.folder / f"{file.key}.part"

        def waiting() -> None:
            self.display.say(f"{file.key}: waiting for another bake that is bringing it")

        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with sole(part, waiting):
                facts = self._since_recorded(file, facts)
                return self._there(file, facts, check) or self._fetched(wanted, facts, check)
        except OSError as error:
            raise BakeError(f"{file.key}: {trouble(error, self.folder)}") from error

    def _since_recorded(self, file: File, facts: Facts) -> Facts:
        """What another bake, which we may have waited for, has recorded in the meantime."""
        entry = self.ledger.entries().get(file.key) if facts.sha256 is None else None
        return replace(facts, bytes=entry["bytes"], sha256=entry["sha256"]) if entry else facts

    def _there(self, file: File, facts: Facts, check: Check) -> Baked | None:
        """The file where it is there already; one of unknown digest is not taken on trust."""
        path = self.folder / file.key
        if facts.sha256 is None or not path.is_file() or facts.bytes not in (None, path.stat().st_size):
            return None
        with self.display.follow(f"{file.key} (checking)") as progress:
            if digest(path, check, progress) != facts.sha256:
                self.display.say(f"{file.key}: the one that is there has another digest and is replaced")
                return None
        self.display.say(f"{file.key}: already there, verified")
        return _baked(file, path.stat().st_size, facts.sha256, facts)

    def _fetched(self, wanted: Wanted, facts: Facts, check: Check) -> Baked:
        file = wanted.file
        *others, last = ways = self.origin.ways(wanted, facts)
        for way in others:
            with suppress(SourceNotFound), self._naming(file, way):
                return self._fetch(wanted, facts, way, check)
        try:
            with self._naming(file, last):
                return self._fetch(wanted, facts, last, check)
        except SourceNotFound as error:
            tried = " or ".join(way.where for way in ways)
            raise BakeError(f"{file.key}: there is no {tried}; {last.when_missing}") from error

    @contextmanager
    def _naming(self, file: File, way: Way) -> Iterator[None]:
        """Tell of which file from where a failure is; SourceNotFound and Cancelled pass."""
        try:
            yield
        except (SourceNotFound, Cancelled):
            raise
        except SourceForbidden as error:
            raise BakeError(f"{file.key}: {way.where} is refused; {way.when_refused}") from error
        except WrongBytes as error:
            published = shown(file.url or "")
            look = f"; it is published at {published}" if published not in ("", way.where) else ""
            raise BakeError(f"{file.key}: {way.where} {error}{look}") from error
        except DiskFull as error:
            raise BakeError(f"{file.key}: {no_room(self.folder)}") from error
        except JobError as error:
            raise BakeError(f"{file.key}: {way.where}: {error.message}; run again to go on") from error

    def _fetch(self, wanted: Wanted, facts: Facts, way: Way, check: Check) -> Baked:
        file = wanted.file
        with (
            self.display.follow(file.key) as progress,
            Weighed(self.folder / file.key, facts.bytes, check, progress) as part,
        ):
            self._pour(part, facts, way, check)
            if facts.sha256 is None:
                part.demand_likely(wanted.estimate)
            baked = _baked(file, part.size, part.sha256, facts)
            self._record(file, baked)
            part.finish()
        self.display.say(f"{file.key}: {size(baked.bytes)} from {way.where}, sha256 {baked.sha256[:12]}... verified")
        return baked

    def _pour(self, part: Weighed, facts: Facts, way: Way, check: Check) -> None:
        """Fill the part. What goes on behind the bytes of an earlier run, and is wrong in the end, begins anew."""
        resumed = part.size
        if resumed:
            self.display.say(f"{part.name}: going on behind {size(resumed)} of an earlier run")
        try:
            _pour_once(part, facts, way, check)
        except WrongBytes as error:
            if not resumed:
                raise
            self.display.say(f"{part.name}: the earlier run's bytes are thrown away, as the whole {error}")
            part.restart()
            _pour_once(part, facts, way, check)

    def _record(self, file: File, baked: Baked) -> None:
        """Write down what the catalog leaves open."""
        if None not in (file.sha256, file.bytes) and not (file.source.branch and baked.revision):
            return
        if self.ledger.writable:
            self.ledger.record(file.key, baked)
            self.display.say(f"{file.key}: sha256 {baked.sha256} recorded in {self.ledger.path}")
        else:
            self.display.say(
                f"{file.key}: {self.ledger.path} cannot be written, so that only the manifest records "
                f"{baked.bytes:,} bytes, sha256 {baked.sha256}; take it back by --adopt"
            )


def _pour_once(part: Weighed, facts: Facts, way: Way, check: Check) -> None:
    if facts.sha256 is None or part.size != facts.bytes:  # what cannot be weighed is not taken as it lies there
        way.pour(part, check)
    part.demand_size(part.size)
    if facts.sha256 not in (None, part.sha256):
        found = part.sha256
        part.restart()
        raise WrongBytes(f"has sha256 {found}, {facts.sha256} expected")


def _baked(file: File, size: int, sha256: str, facts: Facts) -> Baked:
    return Baked(size, sha256, file.source.licence, facts.revision)
