"""Google Cloud Storage: as whom to talk to it, and objects as sources. Its library is imported when needed.

Uploads are `gcs_upload`'s.
"""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import JobError, SourceForbidden, SourceNotFound, SourceUnreachable
from engine.storage.buckets import Object
from engine.storage.dialling import TIMEOUT
from engine.storage.hooks import Check
from engine.storage.part import Part
from engine.storage.patience import Patience, Transient

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
_MACHINE = Path("/sys/class/dmi/id/product_name")


@lru_cache(maxsize=2)
def client(credentials_json: str | None) -> Any:
    """A client by the given service account, else by what the environment offers, else anonymous."""
    # Else the library looks at the bucket itself from a thread of its own, for traces that nobody reads.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    from google.cloud.storage import Client

    return Client(project=None, credentials=_credentials(credentials_json))


def _credentials(credentials_json: str | None) -> Any:
    """Raises google.auth.exceptions.GoogleAuthError."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import MalformedError
    from google.oauth2.service_account import Credentials

    if credentials_json:
        try:
            key = json.loads(credentials_json)
        except ValueError:
            raise MalformedError("not JSON") from None  # type: ignore[no-untyped-call]
        return Credentials.from_service_account_info(key, scopes=_SCOPES)  # type: ignore[no-untyped-call]
    if os.environ.get("STORAGE_EMULATOR_HOST") or not _environment_offers():
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    return google.auth.default(scopes=_SCOPES)[0]


def _environment_offers() -> bool:
    """True where application default credentials may be found.

    Asked before Google's library is: outside Google's cloud it would knock at the metadata server for many seconds.
    """
    if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or os.environ.get("K_SERVICE"):  # a key file; Cloud Run
        return True
    configured = Path(os.environ.get("CLOUDSDK_CONFIG", Path.home() / ".config" / "gcloud"))
    if (configured / "application_default_credentials.json").is_file():
        return True
    try:
        return _MACHINE.read_text().startswith("Google")
    except OSError:
        return False


class Download:
    """One object into one part, resumed by Range within one generation of it, checked by its CRC32C."""

    def __init__(self, credentials: str | None, found: Object, part: Part, check: Check) -> None:
        self._credentials, self._found = credentials, found
        self._part, self._check = part, check
        self._generation: int | None = None
        self._sum = _crc32c()
        for piece in part.written():
            self._sum.update(piece)

    def run(self, patience: Patience) -> None:
        """Raises SourceUnreachable, SourceForbidden, SourceNotFound, SourceTooLarge, DiskFull."""
        try:
            patience.persist(self._attempt, self._check, self._part.progressed)
        except Transient as failure:
            raise SourceUnreachable(
                f"Google Cloud Storage {failure.reason}, and trying again did not help", field="source"
            ) from failure

    def write(self, piece: bytes) -> int:
        """Take what the library reads; its own checksum ends where a download breaks off."""
        self._sum.update(piece)
        return self._part.write(piece)

    def _attempt(self) -> None:
        with source_errors():
            blob = client(self._credentials).bucket(self._found.bucket).blob(self._found.key)
            blob.reload(timeout=TIMEOUT, retry=None)
            if self._generation not in (None, blob.generation):
                self._restart()
            self._generation = blob.generation
            self._part.expect(blob.size)
            if self._part.size < blob.size:
                self._pour(blob)
        if self._part.size < blob.size:
            raise Transient("sent fewer bytes than it announced")
        if self._part.size != blob.size or base64.b64encode(self._sum.digest()).decode() != blob.crc32c:
            self._restart()
            raise Transient("sent other bytes than it holds")

    def _pour(self, blob: Any) -> None:
        blob.download_to_file(
            self,
            start=self._part.size or None,
            raw_download=True,
            if_generation_match=self._generation,
            checksum=None,
            timeout=TIMEOUT,
            retry=None,
        )

    def _restart(self) -> None:
        self._part.restart()
        self._sum = _crc32c()


def _crc32c() -> Any:
    from google_crc32c import Checksum

    return Checksum()  # type: ignore[no-untyped-call]


@contextmanager
def source_errors() -> Iterator[None]:
    """Sort the library's errors into ours."""
    import requests
    import urllib3
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        yield
    except GoogleAPICallError as error:
        raise _source_refusal(int(error.code or 0)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TransportError) as error:
        raise Transient("could not be reached, or dropped the connection") from error
    except GoogleAuthError as error:
        raise SourceForbidden("the worker's Google credentials were not accepted", field="source") from error


def _source_refusal(status: int) -> JobError | Transient:
    if not_now(status) or status == 412:  # 412: the object was replaced while we read it
        return Transient(f"answered {status}")
    if status == 404:
        return SourceNotFound("there is no such bucket or object", field="source")
    if status in (401, 403):
        return SourceForbidden(
            "the bucket refuses to show this object to the worker's credentials (or it does not exist)", field="source"
        )
    return SourceUnreachable(f"Google Cloud Storage answered {status} instead of a file", field="source")


def not_now(status: int) -> bool:
    """True for answers that may be another one next time."""
    return status >= 500 or status in (408, 429)
