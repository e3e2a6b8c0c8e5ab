"""Places that a result can go to, and which of them a job means: its own, its `s3Config`, or the worker's.

Here is only what is said; whether it can be reached is `deliver`'s to find out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import InvalidInput, Problem
from engine.settings import Settings
from engine.storage.addresses import Guard, host_and_port
from engine.storage.buckets import bucket_object, is_bucket
from engine.storage.names import safe_key, safe_name
from engine.storage.s3 import Access, split_endpoint


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket that speaks S3. `public_base` makes links where the operator serves the bucket openly."""

    bucket: str
    prefix: str = ""
    key: str | None = None
    endpoint: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None
    public_base: str | None = None
    trusted: bool = False  # the operator's own endpoint, which may stand in a private network

    def access(self, guard: Guard) -> Access:
        return Access(self.endpoint, self.access_key, self.secret_key, self.region, None if self.trusted else guard)


@dataclass(frozen=True, slots=True)
class GcsPlace:
    """A bucket of Google Cloud Storage."""

    bucket: str
    prefix: str = ""
    key: str | None = None
    public_base: str | None = None


@dataclass(frozen=True, slots=True)
class PutPlace:
    """A presigned URL that takes one PUT."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """A folder: the worker's own output folder (`local`), or one that the job names under the allowed roots."""

    path: Path
    local: bool = False


@dataclass(frozen=True, slots=True)
class InlinePlace:
    """The reply itself."""


_BUCKET_RULE = (
    "must be a bucket's bare name: letters, digits, dots, hyphens and underscores, "
    "at least three, with a letter or digit at both ends"
)

Place = S3Place | GcsPlace | PutPlace | FolderPlace | InlinePlace


def destination(requested: Any, s3_config: Mapping[str, Any] | None, settings: Settings) -> Place | None:
    """The job's own destination, else its `s3Config`, else the worker's bucket, else (locally) its output folder.

    None where nothing is configured. Raises InvalidInput.
    """
    base = _configured(s3_config) if s3_config else None
    if requested is not None:
        return _requested(requested, base, settings)
    if base is not None:
        return base
    if place := _workers_bucket(settings):
        return place
    return FolderPlace(settings.output_dir, local=True) if settings.local else None


def key_for(place: S3Place | GcsPlace, job_id: str, filename: str) -> str:
    """The job's own key, or one made from its id, so that a repeated job overwrites instead of piling up."""
    own = place.key or f"{safe_name(job_id, 'job')}/{safe_name(filename)}"
    return f"{place.prefix}/{own}" if place.prefix else own


def _requested(requested: Any, base: S3Place | None, settings: Settings) -> Place:
    match requested:
        case "inline":
            return InlinePlace()
        case {"put_url": str(url)}:
            host_and_port(url, "destination.put_url")
            return PutPlace(url)
        case {"volume": str(path)}:
            return FolderPlace(Path(path))
        case {"bucket": str(url)}:
            key = requested.get("key")
            return _bucket(url, safe_key(key) if key else None, base, settings)
    raise _wrong("destination", 'must be {"bucket": ...}, {"put_url": ...}, {"volume": ...} or "inline"')


def _bucket(url: str, key: str | None, base: S3Place | None, settings: Settings) -> S3Place | GcsPlace:
    """A bucket by its URL, with the job's credentials where it brought some, else the worker's."""
    name, prefix = bucket_object(url, "destination.bucket", key_needed=False)
    prefix = safe_key(prefix.rstrip("/"), "destination.bucket") if prefix.strip("/") else ""
    if url.startswith("gs://"):
        return GcsPlace(name, prefix, key)
    if not url.startswith("s3://"):
        raise _wrong("destination.bucket", "must begin with s3:// or gs://")
    if base is not None:
        return S3Place(name, prefix, key, base.endpoint, base.access_key, base.secret_key, base.region)
    access = Access.from_settings(settings)
    return S3Place(name, prefix, key, access.endpoint, access.key_id, access.secret, access.region, trusted=True)


def _workers_bucket(settings: Settings) -> S3Place | GcsPlace | None:
    """The operator's bucket: BUCKET_URL, or a bucket written into BUCKET_ENDPOINT_URL as RunPod's guides do."""
    if url := settings.bucket_url:
        place = _bucket(url, None, None, settings)
        if isinstance(place, GcsPlace):
            return GcsPlace(place.bucket, place.prefix, public_base=settings.public_base_url)
    else:
        written = split_endpoint(settings.bucket_endpoint_url)
        if written.bucket is None:
            return None
        url = f"s3://{written.bucket}/{written.prefix}"
    name, prefix = bucket_object(url, "BUCKET_URL", key_needed=False)
    access = Access.from_settings(settings)
    return S3Place(
        name,
        prefix.strip("/"),
        endpoint=access.endpoint,
        access_key=access.key_id,
        secret_key=access.secret,
        region=access.region,
        public_base=settings.public_base_url,
        trusted=True,
    )


def _configured(config: Mapping[str, Any]) -> S3Place:
    """The bucket that RunPod's `s3Config` names; its endpoint may hold the bucket, too. Raises InvalidInput."""
    given = {name: str(value).strip() for name, value in config.items() if value}
    problems = [Problem(f"s3Config.{name}", "is missing") for name in ("accessId", "accessSecret") if name not in given]
    url = given.get("endpointUrl")
    try:
        endpoint = split_endpoint(url, given.get("bucketName"))
    except ValueError:
        raise _wrong("s3Config.endpointUrl", "is not an https:// address") from None
    if endpoint.url:
        host_and_port(endpoint.url, "s3Config.endpointUrl")
    if not endpoint.bucket:
        problems.append(Problem("s3Config.bucketName", "is missing"))
    elif not is_bucket(endpoint.bucket):
        problems.append(Problem("s3Config.bucketName", _BUCKET_RULE))
    if problems or not endpoint.bucket:
        raise InvalidInput(problems)
    return S3Place(
        endpoint.bucket,
        safe_key(endpoint.prefix, "s3Config.endpointUrl") if endpoint.prefix else "",
        endpoint=endpoint.url,
        access_key=given["accessId"],
        secret_key=given["accessSecret"],
        region=endpoint.region,
    )


def _wrong(name: str, text: str) -> InvalidInput:
    return InvalidInput([Problem(name, text)])
