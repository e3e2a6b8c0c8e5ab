"""Where a file comes from: its publisher, or a mirror. The bytes themselves are moved by `engine.storage`'s downloads.

A mirror is a folder or the address of one (http, https, s3, gs). It is laid out like the folder that is baked into
(`<file.key>`) or as `<repository's name>/<path>`; a folder may also be a Hugging Face cache. A mirror that speaks the
Hub's own protocol is no matter of `--from`: HF_ENDPOINT names it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlsplit

import requests
from pydantic import ValidationError

from builder.bake.errors import BakeError, shown
from builder.bake.hub import Hub
from builder.bake.wanted import Wanted
from engine.catalog import File, Model, locate
from engine.settings import Settings, complaint
from engine.storage import http
from engine.storage.buckets import bucket_object, is_bucket
from engine.storage.dialling import certificate_authorities
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
        def pour(part: Part, check: Check) -> None:
            session = _session()
            session.auth = lambda request: request  # else a ~/.netrc would take the place of the token
            http.Download(session, self.hub.url(file, commit), part, check, self.hub.credentials).run(self.patience)

        page = self.hub.page(file)
        return Way(
            self.hub.place(file, commit),
            pour,
            f"it was moved or renamed; see {page}/tree/{commit}",
            self.hub.when_refused(file),
        )


@dataclass(frozen=True, slots=True)
class Mirror:
    """Files at an address, laid out like the target or by repository."""

    address: str
    patience: Patience

    def facts(self, wanted: Wanted) -> Facts:
        return _stated(wanted.file)

    def ways(self, wanted: Wanted, facts: Facts) -> list[Way]:
        base, file = self.address.rstrip("/"), wanted.file
        places = [file.key]
        if file.source.repo is not None:
            places.append(f"{file.source.repo.partition('/')[2]}/{file.path}")
        quoted = [quote(place) if base.startswith("http") else place for place in places]
        return [_at_address(f"{base}/{place}", self.patience) for place in quoted]


@dataclass(frozen=True, slots=True)
class FolderMirror:
    """Files in a folder, wherever a worker would find them there."""

    folder: Path

    def facts(self, wanted: Wanted) -> Facts:
        return _stated(wanted.file)

    def ways(self, wanted: Wanted, facts: Facts) -> list[Way]:
        file, entry = wanted.file, wanted.entry
        # A converted network stands for its published files, and only they are wanted: no model of no name has one.
        published = replace(entry, name="") if isinstance(entry, Model) else entry
        path = locate(published, [self.folder]).paths.get(file.name)
        if path is None:
            raise BakeError(f"{file.key}: {self._lack(file)}")
        return [Way(str(path), lambda part, check: _copy(path, part), "it is gone", "it may not be read")]

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
            _settings()  # what is wrong with its credentials is told once, and before anything begins
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
    scheme = url.partition(":")[0].lower()

    def pour(part: Part, check: Check) -> None:
        match scheme:
            case "s3":
                _s3(url, part, check, patience)
            case "gs":
                _gcs(url, part, check, patience)
            case _:
                http.Download(_session(), url, part, check).run(patience)

    return Way(shown(url), pour, "it was moved, or is missing there", "the credentials given for it do not open it")


def _s3(url: str, part: Part, check: Check, patience: Patience) -> None:
    from engine.storage import s3

    s3.Download(s3.Access.from_settings(_settings()), bucket_object(url), part, check).run(patience)


def _gcs(url: str, part: Part, check: Check, patience: Patience) -> None:
    from engine.storage import gcs

    key = _settings().gcs_credentials_json
    gcs.Download(key.get_secret_value() if key else None, bucket_object(url), part, check).run(patience)


def _settings() -> Settings:
    """The worker's, for the credentials among them. Raises BakeError."""
    try:
        return Settings.from_env()
    except ValidationError as error:
        raise BakeError(f"a setting is wrong: {complaint(error)}") from error


def _copy(path: Path, part: Part) -> None:
    part.expect(path.stat().st_size)
    with path.open("rb") as file:
        file.seek(part.size)
        while piece := file.read(PIECE):
            part.write(piece)


def _session() -> requests.Session:
    """As the environment wants it, proxies and certificates included: these addresses are the operator's own."""
    made = requests.Session()
    made.verify = certificate_authorities()
    made.headers["User-Agent"] = "restoration-worker"
    made.headers["Accept-Encoding"] = "identity"
    return made
