"""A result to a presigned URL: one PUT with its length and type, streamed."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin

import requests

from engine.errors import InvalidInput, NoDestination, Problem, UploadFailed
from engine.storage.addresses import Guard, host_and_port
from engine.storage.buckets import query_of
from engine.storage.dialling import session
from engine.storage.hooks import Check, Progress
from engine.storage.patience import Transient, retry_after
from engine.storage.watched import Watched

_FIELD = "destination.put_url"
_TIMEOUT = (10.0, 300.0)  # seconds to connect; a bucket may think for long once it has everything
_MAX_REDIRECTS = 5
_CODE = re.compile(rb"<Code>(\w{1,60})</Code>")


def check_url(guard: Guard, url: str) -> None:
    """What can be known without using the link up: where it points and whether it still lasts.

    Raises InvalidInput, SourceBlocked, NoDestination, Transient.
    """
    end = _end_of(url)
    if end and end < datetime.now(UTC):
        raise NoDestination("the presigned URL of the destination has expired", field=_FIELD)
    try:
        guard.check(url)
    except OSError as error:
        raise Transient(f"{host_and_port(url)[0]} could not be found") from error


def put(guard: Guard, url: str, path: Path, content_type: str, check: Check, progress: Progress) -> None:
    """Send the file once. Raises UploadFailed where the other side refuses, Transient where it may yet accept."""
    host = host_and_port(url, _FIELD)[0]
    with _network_errors(host), session(guard) as web:
        for _ in range(_MAX_REDIRECTS + 1):
            with _send(web, url, path, content_type, check, progress) as response:
                if response.status_code not in (307, 308) or "Location" not in response.headers:
                    return _judge(response, host)
                url = urljoin(url, response.headers["Location"])  # a new bucket's other address, most often
    raise UploadFailed(f"{host} redirects more than {_MAX_REDIRECTS} times")


def _send(
    web: requests.Session, url: str, path: Path, content_type: str, check: Check, progress: Progress
) -> requests.Response:
    size = path.stat().st_size
    with path.open("rb") as file:
        body = Watched(file, size, check, progress) if size else b""
        return web.put(
            url,
            data=body,
            headers={"Content-Type": content_type},
            timeout=_TIMEOUT,
            allow_redirects=False,
            stream=True,
        )


def _judge(response: requests.Response, host: str) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    code = _CODE.search(response.raw.read(4096))
    reason = f"{host} answered {status}{f' {code[1].decode()}' if code else ''} to the upload"
    if status >= 500 or status in (408, 425, 429):
        raise Transient(reason, retry_after(response.headers.get("Retry-After")))
    raise UploadFailed(f"{reason}; the presigned URL must be valid for a PUT of this content type")


def _end_of(url: str) -> datetime | None:
    """When a signed link ends, by the fields of Amazon's and Google's signatures."""
    query = query_of(url)
    try:
        for kind in ("amz", "goog"):
            if f"x-{kind}-date" in query:
                begin = datetime.strptime(query[f"x-{kind}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return begin + timedelta(seconds=int(query[f"x-{kind}-expires"]))
    except (KeyError, ValueError, OverflowError):
        raise InvalidInput([Problem(_FIELD, "holds an expiry that cannot be read")]) from None
    return _unix_end(query)


def _unix_end(query: Mapping[str, str]) -> datetime | None:
    """The end by the older signatures; without one, `expires` may mean anything."""
    if "signature" not in query and "googleaccessid" not in query:
        return None
    try:
        return datetime.fromtimestamp(int(query["expires"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


@contextmanager
def _network_errors(host: str) -> Iterator[None]:
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise InvalidInput([Problem(_FIELD, "is not a valid http(s) address")]) from error
    except requests.RequestException as error:
        raise Transient(f"{host} could not be connected to, or dropped the connection") from error
