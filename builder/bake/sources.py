"""Where a file comes from: its publisher, or a mirror.

A mirror is a folder or the address of one (http, https, s3, gs). It is laid out like the folder that is baked into
(`<file.key>`) or as `<repository's name>/<path>`; a folder may also be a Hugging Face cache. A mirror that speaks the
Hub's own protocol is no matter of `--from`: HF_ENDPOINT names it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

from builder.bake.addresses import pour, session, settings, told_bytes
from builder.bake.errors import BakeError, shown
from builder.bake.hub import Hub
from builder.bake.wanted import Wanted
from engine.catalog import File, Model, locate
from engine.storage import http
from engine.storage.buckets import is_bucket
from engine.storage.hooks import PIECE, Check
from engine.storage.part import Part
from engine.storage.patience import Patience

BUCKETS = ("s3", "gs")
SCHEMES = ("http", "https", *BUCKETS)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file must be like, as far as anybody says beforehand; `revision` is the commit that it is of."""

    bytes: int | None
    sha256: str | None
    revision: str | None


@dataclass(frozen=True, slots=True)
class Way:
    """One place of a file. `pour` raises JobErrors; the two remarks say what to do about the commonest of them."""

    where: str
    pour: Callable[[Part, Check], None]
    when_missing: str
    when_refused: str


class Origin(Protocol):
    """The publishers, or a mirror of them."""

    def facts(self, wanted: Wanted) -> Facts:
        """Ask for what the catalog leaves open. Raises BakeError."""

    def ways(self, wanted: Wanted, facts: Facts) -> list[Way]:
        """Every place to try, in order. Raises BakeError where there is none."""


@dataclass(frozen=True, slots=True)
class Publishers:
    """Hugging Face, release pages and buckets: what the catalog names."""

    hub: Hub
    patience: Patience

    def facts(self, wanted: Wanted) -> Facts:
        file = wanted.file
        if file.source.repo is None or not (file.source.branch or file.bytes is None or file.sha256 is None):
            return _stated(file)
        found = self.hub.ask(file)
        for name, ours, theirs in (("sha256", file.sha256, found.sha256), ("bytes", file.bytes, found.bytes)):
            if None not in (ours, theirs) and ours != theirs:
                raise BakeError(
                    f"{file.key}: {self.hub.place(file, found.commit)} is another file now: {name} {ours} expected, "
                    f"{theirs} there; see {self.hub.page(file)}"
                )
        return Facts(file.bytes or found.bytes, file.sha256 or found.sha256, found.commit)

    def ways(self, wanted: Wanted, facts: Facts) -> list[Way]:
        file = wanted.file
        if file.source.repo is not None:
            return [self._hugging_face(file, str(facts.revision))]
        if file.url is None:
            raise BakeError(f"{file.key}: has no published address in the catalog; name a place that has it by --from")
        return [_at_address(file.url, self.patience)]

    def _hugging_face(self, file: File, commit: str) -> Way:
        def fetch(part: Part, check: Check) -> None:
            made = session()
            made.auth = lambda request: request  # else a ~/.netrc would take the place of the token
            http.Download(made, self.hub.url(file, commit), part, check, self.hub.credentials).run(self.patience)

        page = self.hub.page(file)
        return Way(
            self.hub.place(file, commit),
            fetch,
            f"it was moved or renamed; see {page}/tree/{commit}",
            self.hub.when_refused(file),
        )


@dataclass(frozen=True, slots=True)
class Mirror:
    """Files at an address, laid out like the target or by repository."""

    address: str
    patience: Patience

    def facts(self, wanted: Wanted) -> Facts:
        stated = _stated(wanted.file)
        if stated.bytes is not None:
            return stated
        told = filter(None, map(told_bytes, self._places(wanted.file)))
        return replace(stated, bytes=next(told, None))

    def ways(self, wanted: Wanted, facts: Facts) -> list[Way]:
        return [_at_address(place, self.patience) for place in self._places(wanted.file)]

    def _places(self, file: File) -> list[str]:
        base = self.address.rstrip("/")
        places = [file.key]
        if file.source.repo is not None:
            places.append(f"{file.source.repo.partition('/')[2]}/{file.path}")
        quoted = [quote(place) if base.startswith("http") else place for place in places]
        return [f"{base}/{place}" for place in quoted]


@dataclass(frozen=True, slots=True)
class FolderMirror:
    """Files in a folder, wherever a worker would find them there."""

    folder: Path

    def facts(self, wanted: Wanted) -> Facts:
        stated, path = _stated(wanted.file), self._path(wanted)
        return replace(stated, bytes=path.stat().st_size) if path else stated

    def ways(self, wanted: Wanted, facts: Facts) -> list[Way]:
        path = self._path(wanted)
        if path is None:
            raise BakeError(f"{wanted.file.key}: {self._lack(wanted.file)}")
        return [Way(str(path), lambda part, check: _copy(path, part), "it is gone", "it may not be read")]

    def _path(self, wanted: Wanted) -> Path | None:
        entry = wanted.entry
        # A converted network stands for its published files, and only they are wanted: no model of no name has one.
        published = replace(entry, name="") if isinstance(entry, Model) else entry
        return locate(published, [self.folder]).paths.get(wanted.file.name)

    def _lack(self, file: File) -> str:
        here = self.folder / file.key
        if here.is_file():
            return f"{here} has {here.stat().st_size:,} bytes, {file.bytes:,} expected; copy it again"
        return f"{self.folder} has neither {file.key} nor a Hugging Face cache or folder of its repository with it"


def mirror(address: str, patience: Patience) -> Origin:
    """The mirror at an address or in a folder. Raises BakeError."""
    scheme, mark, rest = address.partition("://")
    if mark and scheme.lower() in SCHEMES:
        bucket = scheme.lower() in BUCKETS
        if not (is_bucket(rest.partition("/")[0]) if bucket else _host(address)):
            raise BakeError(f"the mirror {shown(address)} names no {'bucket' if bucket else 'host'}")
        if bucket:
            settings()  # what is wrong with its credentials is told once, and before anything begins
        return Mirror(address, patience)
    if not Path(address).is_dir():
        begins = "://, ".join(SCHEMES)
        raise BakeError(f"the mirror {shown(address)}: there is no such folder; an address begins with {begins}://")
    return FolderMirror(Path(address))


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # of brackets that enclose no address
        return None


def _stated(file: File) -> Facts:
    return Facts(file.bytes, file.sha256, None if file.source.branch else file.source.revision)


def _at_address(url: str, patience: Patience) -> Way:
    return Way(
        shown(url),
        lambda part, check: pour(url, part, check, patience),
        "it was moved, or is missing there",
        "the credentials given for it do not open it",
    )


def _copy(path: Path, part: Part) -> None:
    part.expect(path.stat().st_size)
    with path.open("rb") as file:
        file.seek(part.size)
        while piece := file.read(PIECE):
            part.write(piece)
