"""S3 and every endpoint that speaks it: whom to talk to, and objects as sources. boto3 is imported when needed.

Uploads are `s3_upload`'s.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from engine.errors import JobError, SourceForbidden, SourceNotFound, SourceUnreachable
from engine.settings import Settings
from engine.storage.addresses import Guard
from engine.storage.buckets import Object
from engine.storage.dialling import TIMEOUT, guarded_pools
from engine.storage.hooks import PIECE, Check
from engine.storage.part import Part
from engine.storage.patience import Patience, Transient

_AWS = re.compile(r"(?:(?P<bucket>.+)\.)?s3[.-](?:dualstack\.)?(?:(?P<region>[a-z0-9-]+)\.)?amazonaws\.com(\.cn)?")
_OTHERS = (
    (re.compile(r"(?:(?P<bucket>.+)\.)?[0-9a-f]{32}\.(?:\w+\.)?r2\.cloudflarestorage\.com"), "auto"),
    (re.compile(r"(?:(?P<bucket>.+)\.)?s3\.(?P<region>[a-z0-9-]+)\.(?:backblazeb2|wasabisys)\.com"), ""),
    (re.compile(r"(?:(?P<bucket>[^.]+)\.)?(?P<region>[a-z]{3}\d)\.digitaloceanspaces\.com"), ""),
    (re.compile(r"s3api-(?P<region>[a-z0-9-]+)\.runpod\.io"), ""),
    (re.compile(r"(?:(?P<bucket>.+)\.)?storage\.googleapis\.com"), "auto"),
)
_NOT_NOW = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "ThrottlingException"})


@dataclass(frozen=True, slots=True)
class Access:
    """Whom to talk to and as whom. `guard` is set where the endpoint is a caller's; the operator's may be private."""

    endpoint: str | None = None
    key_id: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    region: str | None = None
    guard: Guard | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "Access":
        endpoint = split_endpoint(settings.bucket_endpoint_url)
        key_id, secret = settings.bucket_access_key_id, settings.bucket_secret_access_key
        return cls(
            endpoint.url,
            key_id.get_secret_value() if key_id else None,
            secret.get_secret_value() if secret else None,
            settings.bucket_region or endpoint.region,
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint URL taken apart; people write the bucket into its host or its path."""

    url: str | None = None
    bucket: str | None = None
    prefix: str = ""
    region: str | None = None


def split_endpoint(url: str | None, bucket: str | None = None) -> Endpoint:
    """Take bucket, prefix and region out of an endpoint URL. Amazon's own endpoints leave only their region."""
    if not url:
        return Endpoint(bucket=bucket)
    parts = urlsplit(url if "://" in url else f"https://{url}")
    in_host, region, host, amazon = _read_host(parts.hostname or "", bucket)
    path = [part for part in parts.path.split("/") if part]
    if in_host is None and path and bucket in (None, path[0]):
        in_host = path.pop(0)
    port = f":{parts.port}" if parts.port else ""
    base = None if amazon else f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"
    return Endpoint(base, bucket or in_host, "/".join(path), region)


def _read_host(host: str, bucket: str | None) -> tuple[str | None, str | None, str, bool]:
    """Bucket, region, the host without the bucket, whether it is Amazon's."""
    if amazon := _AWS.fullmatch(host):
        return amazon["bucket"], amazon["region"], host, True
    for pattern, region in _OTHERS:
        if match := pattern.fullmatch(host):
            found = match.groupdict()
            in_host = found.get("bucket")
            return in_host, region or found["region"], host.removeprefix(f"{in_host}."), False
    if bucket and host.startswith(f"{bucket}."):
        return bucket, None, host.removeprefix(f"{bucket}."), False
    return None, None, host, False


@lru_cache(maxsize=8)
def client(access: Access) -> Any:
    """A boto3 client: s3v4, path style for endpoints that are not Amazon's, unsigned where there are no credentials."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.Session(access.key_id, access.secret, region_name=access.region)
    foreign = access.endpoint is not None
    needed: dict[str, Any] = {"request_checksum_calculation": "when_required"}  # newer checksums are Amazon's alone
    config = Config(
        signature_version="s3v4" if session.get_credentials() else UNSIGNED,
        s3={"addressing_style": "path" if foreign else "virtual"},  # virtual links name the region in their host, too
        retries={"mode": "standard"},
        connect_timeout=TIMEOUT[0],
        read_timeout=TIMEOUT[1],
        proxies={} if access.guard else None,
        **(needed | {"response_checksum_validation": "when_required"} if foreign else {}),
    )
    region = session.region_name or ("us-east-1" if foreign else None)
    made = session.client("s3", endpoint_url=access.endpoint, region_name=region, config=config)
    if access.guard:
        _dial_through(made, access.guard)
    return made


def _dial_through(made: Any, guard: Guard) -> None:
    """Let the client's connections ask the guard; botocore offers no parameter for its pool classes."""
    from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool

    pools = guarded_pools(guard, AWSHTTPConnectionPool, AWSHTTPSConnectionPool)
    made._endpoint.http_session._manager.pool_classes_by_scheme = pools


class Download:
    """One object into one part, resumed by Range as long as its ETag stays the same."""

    def __init__(self, access: Access, found: Object, part: Part, check: Check) -> None:
        self._client = client(access)
        self._object = {"Bucket": found.bucket, "Key": found.key}
        self._part, self._check = part, check
        self._etag = ""

    def run(self, patience: Patience) -> None:
        """Raises SourceUnreachable, SourceForbidden, SourceNotFound, SourceTooLarge, DiskFull."""
        try:
            patience.persist(self._attempt, self._check, self._part.progressed)
        except Transient as failure:
            raise SourceUnreachable(
                f"the bucket of the source {failure.reason}, and trying again did not help", field="source"
            ) from failure

    def _attempt(self) -> None:
        with source_errors():
            head = self._client.head_object(**self._object)
            if self._etag not in ("", head["ETag"]):
                self._part.restart()
            self._etag = head["ETag"]
            self._part.expect(head["ContentLength"])
            if self._part.size < head["ContentLength"]:
                self._pour()
        if self._part.size != self._part.total:
            raise Transient("sent fewer bytes than it announced")

    def _pour(self) -> None:
        asked = {"Range": f"bytes={self._part.size}-"} if self._part.size else {}
        answer = self._client.get_object(**self._object, IfMatch=self._etag, **asked)
        with answer["Body"] as body:
            while piece := body.read(PIECE):
                self._part.write(piece)


@contextmanager
def source_errors() -> Iterator[None]:
    """Sort botocore's errors into ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _source_refusal(error) from error
    except BotoCoreError as error:
        raise guarded_error(error) or Transient("could not be reached, or dropped the connection") from error


def _source_refusal(error: Any) -> JobError | Transient:
    status, code = status_of(error), error.response.get("Error", {}).get("Code", "")
    if not_now(error) or status == 412:  # 412: the object was replaced while we read it
        return Transient(f"answered {status}")
    if status == 404 or code in ("NoSuchKey", "NoSuchBucket"):
        return SourceNotFound("there is no such bucket or object", field="source")
    if status in (401, 403):
        return SourceForbidden(
            "the bucket refuses to show this object to the worker's credentials (or it does not exist)", field="source"
        )
    return SourceUnreachable(f"the bucket answered {status} {code} instead of a file", field="source")


def status_of(error: Any) -> int:
    """The HTTP status in a botocore ClientError."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def not_now(error: Any) -> bool:
    """True for answers of the bucket that may be another one next time."""
    status, code = status_of(error), error.response.get("Error", {}).get("Code", "")
    return status >= 500 or status in (408, 429) or code in _NOT_NOW


def guarded_error(error: Any) -> JobError | None:
    """The guard's own error, which botocore wraps when it is raised beneath it."""
    inner = getattr(error, "kwargs", {}).get("error")
    return inner if isinstance(inner, JobError) else None
