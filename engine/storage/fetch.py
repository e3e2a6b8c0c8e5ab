"""Sources to files: decides from the address which way a source comes."""

import re
from pathlib import Path

from engine.errors import InvalidInput, Problem
from engine.settings import Settings
from engine.storage import data, gcs, http, s3
from engine.storage.addresses import Guard, Resolve, host_and_port, resolve
from engine.storage.buckets import Object, bucket_object, google_object
from engine.storage.dialling import session
from engine.storage.hooks import Check, Progress, unchecked, unseen
from engine.storage.local import local_source
from engine.storage.names import name_of, safe_name
from engine.storage.part import Part
from engine.storage.patience import Patience
from engine.storage.sources import Fetched, Limits

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Fetcher:
    """Brings a source into a folder, or finds it where it lies. Everything it raises is a JobError."""

    def __init__(self, settings: Settings, *, resolve: Resolve = resolve, patience: Patience | None = None) -> None:
        self._settings = settings
        self._limits = Limits(settings.max_input_bytes, settings.roots, settings.allowed_hosts)
        self._guard = Guard(settings.allowed_hosts, resolve)
        self._patience = patience or Patience()

    def fetch(self, address: str, folder: Path, *, check: Check = unchecked, progress: Progress = unseen) -> Fetched:
        """Fetch a URL, bucket object, `data:` URL or allowed path; a local file is used in place, never copied."""
        address = address.strip()
        scheme = address.partition(":")[0].lower()
        if scheme == "data":
            return self._decode(address, folder, "source")
        if scheme in ("http", "https"):
            host_and_port(address)
            found = google_object(address)
            return self._gcs(found, folder, check, progress) if found else self._http(address, folder, check, progress)
        if scheme == "gs" and _SCHEME.match(address):
            return self._gcs(bucket_object(address), folder, check, progress)
        if scheme == "s3" and _SCHEME.match(address):
            return self._s3(bucket_object(address), folder, check, progress)
        if scheme != "file" and _SCHEME.match(address):
            raise InvalidInput([Problem("source", f"{scheme}:// is not read; use https, http, s3, gs, data or a path")])
        return local_source(address, self._limits)

    def fetch_base64(self, text: str, folder: Path) -> Fetched:
        """Decode a source given as base64, bare or as a `data:` URL."""
        return self._decode(text.strip(), folder, "source_base64")

    def _decode(self, text: str, folder: Path, field: str) -> Fetched:
        name, letters = data.open_base64(text, self._limits, field)
        with Part(folder, name, self._limits) as part:
            data.decode(letters, part)
            return part.finish()

    def _http(self, url: str, folder: Path, check: Check, progress: Progress) -> Fetched:
        with session(self._guard) as web, self._part(name_of(url), folder, check, progress) as part:
            http.Download(web, url, part, check).run(self._patience)
            return part.finish()

    def _s3(self, found: Object, folder: Path, check: Check, progress: Progress) -> Fetched:
        access = s3.Access.from_settings(self._settings)
        with self._part(_last(found), folder, check, progress) as part:
            s3.Download(access, found, part, check).run(self._patience)
            return part.finish()

    def _gcs(self, found: Object, folder: Path, check: Check, progress: Progress) -> Fetched:
        key = self._settings.gcs_credentials_json
        with self._part(_last(found), folder, check, progress) as part:
            gcs.Download(key.get_secret_value() if key else None, found, part, check).run(self._patience)
            return part.finish()

    def _part(self, name: str, folder: Path, check: Check, progress: Progress) -> Part:
        return Part(folder, name, self._limits, check=check, progress=progress)


def _last(found: Object) -> str:
    return safe_name(found.key.rstrip("/").rpartition("/")[2], "source")
