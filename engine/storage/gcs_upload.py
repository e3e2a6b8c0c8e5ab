"""Results into Google Cloud Storage: checked beforehand without a trace, sent resumably, linked."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from engine.errors import UploadFailed
from engine.storage.dialling import TIMEOUT
from engine.storage.gcs import client, not_now
from engine.storage.hooks import Check, Progress
from engine.storage.patience import Transient
from engine.storage.watched import Watched

_CHUNK = 8 << 20  # bytes in memory at a time; the protocol wants a multiple of 256 KiB
_CHUNK_PATIENCE = 30.0  # seconds that one chunk may be tried again before the whole upload is


def check_bucket(credentials: str | None, bucket: str, key: str) -> None:
    """Raises UploadFailed or Transient unless an upload to that key would be accepted.

    Opens a resumable upload and gives it up: that needs the very permission that the upload will need, and leaves
    nothing. Bucket-wide permission tests deny what a condition allows for a prefix.
    """
    with upload_errors(bucket):
        opened = (
            client(credentials).bucket(bucket).blob(key).create_resumable_upload_session(timeout=TIMEOUT[1], retry=None)
        )
        client(credentials)._http.delete(opened, timeout=TIMEOUT)


def upload(
    credentials: str | None, bucket: str, key: str, path: Path, content_type: str, check: Check, progress: Progress
) -> None:
    """Send a file. Raises UploadFailed, Transient, and what `check` raises; the object appears whole or not at all."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    size = path.stat().st_size
    retry = DEFAULT_RETRY.with_timeout(_CHUNK_PATIENCE) if size > _CHUNK else None
    with upload_errors(bucket), path.open("rb") as file:
        blob = client(credentials).bucket(bucket).blob(key, chunk_size=_CHUNK)
        watched = Watched(file, size, check, progress)
        blob.upload_from_file(watched, size=size, content_type=content_type, timeout=TIMEOUT, retry=retry)


def upload_bytes(credentials: str | None, bucket: str, key: str, body: bytes, content_type: str) -> None:
    """Send a small object in one request. Raises UploadFailed, Transient."""
    with upload_errors(bucket):
        client(credentials).bucket(bucket).blob(key).upload_from_string(body, content_type, timeout=TIMEOUT, retry=None)


def signed(credentials: str | None, bucket: str, key: str, seconds: int) -> str | None:
    """A link that anyone may GET for so long; None where the credentials hold no key to sign with."""
    from google.auth.credentials import Signing

    gcs = client(credentials)
    if not isinstance(gcs._credentials, Signing):
        return None
    blob = gcs.bucket(bucket).blob(key)
    return str(blob.generate_signed_url(version="v4", expiration=timedelta(seconds=seconds), method="GET"))


@contextmanager
def upload_errors(bucket: str) -> Iterator[None]:
    """Sort the library's errors into UploadFailed, which stands, and Transient, which may pass."""
    import requests
    import urllib3
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    try:
        yield
    except GoogleAPICallError as error:
        raise _refusal(int(error.code or 0), bucket) from error
    except InvalidResponse as error:
        raise _refusal(error.response.status_code, bucket) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise Transient(f"the bucket {bucket} could not be reached, or dropped the connection") from error
    except (TransportError, DataCorruption) as error:
        raise Transient(f"the bucket {bucket} could not be authorized with, or stored other bytes") from error
    except GoogleAuthError as error:
        raise UploadFailed("the worker's Google credentials were not accepted") from error


def _refusal(status: int, bucket: str) -> UploadFailed | Transient:
    if not_now(status):
        return Transient(f"the bucket {bucket} answered {status}")
    return UploadFailed(f"the bucket {bucket} answered {status}; its name and the credentials must allow writing there")
