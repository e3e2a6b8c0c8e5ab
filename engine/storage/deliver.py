"""Results to their places: checked before the work, delivered after it, each attempt whole."""

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

from engine.errors import NoDestination, UploadFailed
from engine.settings import Settings
from engine.storage import gcs_upload, put, s3_upload
from engine.storage.addresses import Guard, Resolve, resolve
from engine.storage.destinations import FolderPlace, GcsPlace, InlinePlace, Place, PutPlace, S3Place, key_for
from engine.storage.folder import check_folder, place_bytes, place_file
from engine.storage.hooks import Check, Progress, unchecked, unseen
from engine.storage.local import RULE, inside
from engine.storage.names import safe_name
from engine.storage.patience import Patience, Transient
from engine.storage.s3 import Access

log = logging.getLogger(__name__)
T = TypeVar("T")
INLINE_BYTES = 5_000_000  # of the file; a third more as base64
_RESULT = "result.json"
_PROBE = "upload-check"


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where a result is. `inline` holds it as base64, and then `url` is empty; `expires_at` is the link's end."""

    url: str
    expires_at: datetime | None = None
    bucket: str | None = None
    key: str | None = None
    inline: str | None = None


class Deliverer:
    """Takes results to places. What fails on the way is tried again as a whole, twice. Raises JobErrors only."""

    def __init__(self, settings: Settings, *, resolve: Resolve = resolve, patience: Patience | None = None) -> None:
        key = settings.gcs_credentials_json
        self._gcs_key = key.get_secret_value() if key else None
        self._roots = settings.roots
        self._guard = Guard(settings.allowed_hosts, resolve, "destination.put_url")
        self._patience = patience or Patience(tries=3, first=1.0)

    def check(self, place: Place) -> None:
        """Find out before any work whether a result could be delivered there, without leaving a trace.

        Raises NoDestination, UploadFailed, InvalidInput, SourceBlocked.
        """
        match place:
            case S3Place():
                access = self._access(place)
                self._retried(lambda: s3_upload.check_bucket(access, place.bucket, key_for(place, _PROBE, _PROBE)))
            case GcsPlace():
                key = key_for(place, _PROBE, _PROBE)
                self._retried(lambda: gcs_upload.check_bucket(self._gcs_key, place.bucket, key))
            case PutPlace():
                self._retried(lambda: put.check_url(self._guard, place.url))
            case FolderPlace():
                check_folder(self._folder(place))
            case InlinePlace():
                pass

    def deliver(
        self,
        path: Path,
        place: Place,
        *,
        job_id: str,
        filename: str,
        content_type: str,
        expires_s: int,
        check: Check = unchecked,
        progress: Progress = unseen,
    ) -> Delivered:
        """Take a file to its place and say where it is. Raises UploadFailed, NoDestination, DiskFull."""
        job = _Job(path, job_id, filename, content_type, expires_s, check, progress)
        match place:
            case S3Place():
                return self._to_s3(job, place)
            case GcsPlace():
                return self._to_gcs(job, place)
            case PutPlace():
                guard, url = self._guard, place.url
                self._retried(lambda: put.put(guard, url, path, content_type, check, progress), check)
                return Delivered(_bare(url))
            case FolderPlace():
                folder, name = self._folder(place, job_id), safe_name(filename)
                made = self._retried(lambda: place_file(path, folder, name, check, progress), check)
                return Delivered(made.as_uri())
            case InlinePlace():
                return _inline(path)

    def deliver_json(self, body: bytes, place: Place, *, job_id: str) -> None:
        """Lay `result.json` beside the result, where the place has a beside. Raises as `deliver` does."""
        kind = "application/json"
        match place:
            case S3Place():
                access, key = self._access(place), _beside(key_for(place, job_id, _RESULT))
                self._retried(lambda: s3_upload.upload_bytes(access, place.bucket, key, body, kind))
            case GcsPlace():
                key = _beside(key_for(place, job_id, _RESULT))
                self._retried(lambda: gcs_upload.upload_bytes(self._gcs_key, place.bucket, key, body, kind))
            case FolderPlace():
                folder = self._folder(place, job_id)
                self._retried(lambda: place_bytes(body, folder, _RESULT))
            case PutPlace() | InlinePlace():
                pass

    def _to_s3(self, job: "_Job", place: S3Place) -> Delivered:
        key = key_for(place, job.job_id, job.filename)
        access, headers = self._access(place), {"ContentType": job.content_type, "ContentDisposition": "inline"}
        self._retried(
            lambda: s3_upload.upload(access, place.bucket, key, job.path, headers, job.check, job.progress), job.check
        )
        if place.public_base:
            return Delivered(_public(place.public_base, key), None, place.bucket, key)
        access = s3_upload.with_region(access, place.bucket)
        return Delivered(
            s3_upload.presigned(access, place.bucket, key, job.expires_s), job.expires_at(), place.bucket, key
        )

    def _to_gcs(self, job: "_Job", place: GcsPlace) -> Delivered:
        key = key_for(place, job.job_id, job.filename)
        self._retried(
            lambda: gcs_upload.upload(
                self._gcs_key, place.bucket, key, job.path, job.content_type, job.check, job.progress
            ),
            job.check,
        )
        if place.public_base:
            return Delivered(_public(place.public_base, key), None, place.bucket, key)
        link = gcs_upload.signed(self._gcs_key, place.bucket, key, job.expires_s)
        if link is None:
            log.warning("the Google credentials hold no key to sign links with; answering the object's gs:// address")
            return Delivered(f"gs://{place.bucket}/{key}", None, place.bucket, key)
        return Delivered(link, job.expires_at(), place.bucket, key)

    def _access(self, place: S3Place) -> Access:
        access = place.access(replace(self._guard, blamed="s3Config.endpointUrl"))
        if access.guard and access.endpoint:
            endpoint, guard = access.endpoint, access.guard
            self._retried(lambda: put.check_url(guard, endpoint))
        return access

    def _folder(self, place: FolderPlace, *below: str) -> Path:
        """The folder itself, or the job's own beneath it, with every link followed."""
        wanted = place.path.joinpath(*(safe_name(part, "job") for part in below))
        if place.local:
            return wanted.resolve()
        found = inside(str(wanted), self._roots, "destination.volume")
        if found is None:
            raise NoDestination(RULE, field="destination.volume")
        return found

    def _retried(self, attempt: Callable[[], T], check: Check = unchecked) -> T:
        try:
            return self._patience.persist(attempt, check)
        except Transient as failure:
            raise UploadFailed(f"{failure.reason}, {self._patience.tries} times in a row") from failure


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    job_id: str
    filename: str
    content_type: str
    expires_s: int
    check: Check
    progress: Progress

    def expires_at(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.expires_s)


def _inline(path: Path) -> Delivered:
    size = path.stat().st_size
    if size > INLINE_BYTES:
        raise NoDestination(
            f"the result has {size:,} bytes; at most {INLINE_BYTES:,} fit into a reply",
            hint="name a bucket, a put_url or a volume as destination",
            field="destination",
        )
    return Delivered("", inline=base64.b64encode(path.read_bytes()).decode())


def _beside(key: str) -> str:
    folder = key.rpartition("/")[0]
    return f"{folder}/{_RESULT}" if folder else _RESULT


def _public(base: str, key: str) -> str:
    return f"{base.rstrip('/')}/{quote(key)}"


def _bare(url: str) -> str:
    """A URL without password, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
