"""Sources over http(s): streamed, resumed where the line broke, redirects followed by hand.

`dialling` sees to it that no redirect leads inside; this module sees to it that what arrives is whole.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from engine.errors import (
    InvalidInput,
    JobError,
    Problem,
    SourceBlocked,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
)
from engine.storage.addresses import host_and_port
from engine.storage.dialling import TIMEOUT
from engine.storage.hooks import PIECE, Check
from engine.storage.part import Part
from engine.storage.patience import Patience, Transient, retry_after

MAX_REDIRECTS = 5
_AGAIN = frozenset({408, 425, 429})  # of the 4xx, those that mean "not now" rather than "no"
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")


class Download:
    """One file over http(s) into one part. `credentials` are headers that no redirect carries to another host."""

    def __init__(
        self,
        session: requests.Session,
        url: str,
        part: Part,
        check: Check,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self._session, self._url, self._part, self._check = session, url, part, check
        self._credentials = dict(credentials or {})
        self._host = host_and_port(url)[0]
        self._version: str | None = None  # what If-Range takes: a strong ETag or a date
        self._encoded = False  # compressed on the way although we asked for no such thing: cannot be resumed

    def run(self, patience: Patience) -> None:
        """Raises SourceUnreachable, SourceForbidden, SourceNotFound, SourceBlocked, SourceTooLarge, DiskFull."""
        try:
            patience.persist(self._attempt, self._check, self._part.progressed)
        except Transient as failure:
            raise SourceUnreachable(
                f"{self._host} {failure.reason}, and trying again did not help", field="source"
            ) from failure

    def _attempt(self) -> None:
        with network_errors(), self._open() as response:
            self._place(response)
            while piece := response.raw.read1(PIECE, decode_content=True):
                self._part.write(piece)
        if self._part.total not in (None, self._part.size):
            raise Transient(f"sent {self._part.size:,} of {self._part.total:,} bytes")

    def _open(self) -> requests.Response:
        """The answer at the end of all redirects."""
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            self._check()
            headers = self._headers() | (self._credentials if _origin(url) == _origin(self._url) else {})
            response = self._session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=TIMEOUT)
            target = self._session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            url = self._redirected(url, target)
        raise SourceUnreachable(f"{self._host} redirects more than {MAX_REDIRECTS} times", field="source")

    def _redirected(self, url: str, target: str) -> str:
        try:
            url = urljoin(url, target)
            scheme = urlsplit(url).scheme
        except ValueError:
            raise SourceUnreachable(f"{self._host} redirects to a broken address", field="source") from None
        if scheme not in ("http", "https"):
            raise SourceBlocked(f"{self._host} redirects away from http", field="source")
        return url

    def _headers(self) -> dict[str, str]:
        if not self._part.size or self._encoded:
            return {}
        headers = {"Range": f"bytes={self._part.size}-"}
        return headers | {"If-Range": self._version} if self._version else headers

    def _place(self, response: requests.Response) -> None:
        """Settle where the body of this answer goes: behind what is there, or over it."""
        status, headers = response.status_code, response.headers
        if status == 206:
            self._continue(headers.get("Content-Range", ""))
        elif status in (200, 203):
            self._part.restart()
            self._version = _version(headers)
            length = headers.get("Content-Length", "")
            self._encoded = headers.get("Content-Encoding", "identity") != "identity"
            self._part.expect(int(length) if _LENGTH.fullmatch(length) and not self._encoded else None)
        elif status == 416:
            self._part.restart()
            raise Transient("no longer has the rest of the file")
        else:
            raise refusal(status, self._host, headers.get("Retry-After"))

    def _continue(self, content_range: str) -> None:
        match = _CONTENT_RANGE.match(content_range)
        total = int(match[2]) if match and match[2] != "*" else None
        if (
            not match
            or int(match[1]) != self._part.size
            or (self._part.total and total not in (None, self._part.total))
        ):
            self._part.restart()
            raise Transient("answered with another part of the file than was asked for")
        self._part.expect(self._part.total if total is None else total)


def refusal(status: int, host: str, after: str | None = None) -> JobError | Transient:
    """What an HTTP status other than success means for a source."""
    if status >= 500 or status in _AGAIN:
        return Transient(f"answered {status}", retry_after(after))
    if status in (404, 410):
        return SourceNotFound(f"{host} answered {status}: there is no such file", field="source")
    if status in (401, 403):
        return SourceForbidden(f"{host} answered {status}: the link needs access rights or has expired", field="source")
    return SourceUnreachable(f"{host} answered {status} instead of a file", field="source")


@contextmanager
def network_errors() -> Iterator[None]:
    """Sort what requests and urllib3 raise into what may be tried again and what may not."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            raise Transient("broke off the secure connection") from error
        raise SourceUnreachable("the server's certificate is not valid for its name", field="source") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise InvalidInput([Problem("source", "is not a valid http(s) address")]) from error
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise Transient("did not answer in time") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Transient("could not be connected to, or dropped the connection") from error


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _version(headers: "requests.structures.CaseInsensitiveDict[str]") -> str | None:
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified")
