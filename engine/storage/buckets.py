"""Addresses of objects in buckets: `s3://`, `gs://` and the web addresses of Google Cloud Storage."""

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from engine.errors import InvalidInput, Problem

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
_GOOGLE = "storage.googleapis.com"
_GOOGLE_CONSOLE = "storage.cloud.google.com"  # what a browser's address bar shows; only ever for signed-in people


class Object(NamedTuple):
    """Where an object lies. As part of a destination the key may be empty or a prefix."""

    bucket: str
    key: str


def is_bucket(name: str) -> bool:
    """True for what can be a bucket's name, with S3 or with Google."""
    return _BUCKET.fullmatch(name) is not None


def bucket_object(address: str, field: str = "source", *, key_needed: bool = True) -> Object:
    """Take `s3://bucket/key` or `gs://bucket/key` apart; the key is taken as it stands. Raises InvalidInput."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    if not is_bucket(bucket) or (key_needed and not key.strip("/")):
        raise InvalidInput(
            [Problem(field, f"is not of the form {scheme}://bucket/{'key' if key_needed else 'prefix'}")]
        )
    return Object(bucket, key)


def google_object(url: str) -> Object | None:
    """The object behind a web address of Google Cloud Storage; None for every other address.

    An address with a query is left to plain https: it is signed, or asks for something particular.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme != "https" or parts.username or (parts.query and host != _GOOGLE_CONSOLE):
        return None
    path = unquote(parts.path).lstrip("/")
    if host in (_GOOGLE, _GOOGLE_CONSOLE):
        bucket, _, path = path.partition("/")
    elif host.endswith(f".{_GOOGLE}"):
        bucket = host.removesuffix(f".{_GOOGLE}")
    else:
        return None
    return Object(bucket, path) if is_bucket(bucket) and path.strip("/") else None


def query_of(url: str) -> dict[str, str]:
    """The query's fields in lower case, the first of each; for signed links only."""
    return {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
