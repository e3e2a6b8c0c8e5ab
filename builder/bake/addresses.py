"""One file at an address (http, https, s3, gs): how large it is, and its bytes, which `engine.storage` moves."""

from contextlib import suppress

import requests
from pydantic import ValidationError

from builder.bake.errors import BakeError
from engine.errors import JobError
from engine.settings import Settings, complaint
from engine.storage import http
from engine.storage.buckets import bucket_object
from engine.storage.dialling import TIMEOUT, certificate_authorities
from engine.storage.hooks import Check
from engine.storage.part import Part
from engine.storage.patience import Patience, Transient


def pour(url: str, part: Part, check: Check, patience: Patience) -> None:
    """The bytes into the part. Raises JobErrors, BakeError."""
    match _scheme(url):
        case "s3":
            from engine.storage import s3

            s3.Download(s3.Access.from_settings(settings()), bucket_object(url), part, check).run(patience)
        case "gs":
            from engine.storage import gcs

            gcs.Download(_google_key(), bucket_object(url), part, check).run(patience)
        case _:
            http.Download(session(), url, part, check).run(patience)


def told_bytes(url: str) -> int | None:
    """The size, where the place tells it at the first question. Raises BakeError."""
    with suppress(JobError, Transient):
        match _scheme(url):
            case "s3":
                return _in_s3(url)
            case "gs":
                return _in_google(url)
            case _:
                return _on_the_web(url)
    return None


def settings() -> Settings:
    """The worker's, for the credentials among them. Raises BakeError."""
    try:
        return Settings.from_env()
    except ValidationError as error:
        raise BakeError(f"a setting is wrong: {complaint(error)}") from error


def session() -> requests.Session:
    """As the environment wants it, proxies and certificates included: these addresses are the operator's own."""
    made = requests.Session()
    made.verify = certificate_authorities()
    made.headers["User-Agent"] = "restoration-worker"
    made.headers["Accept-Encoding"] = "identity"
    return made


def _on_the_web(url: str) -> int | None:
    with http.network_errors(), session() as made:
        answer = made.head(url, allow_redirects=True, timeout=TIMEOUT)
    plain = answer.ok and "Content-Encoding" not in answer.headers
    length = answer.headers.get("Content-Length", "")
    return int(length) or None if plain and length.isdecimal() else None  # 0 is what some servers say to any HEAD


def _in_s3(url: str) -> int:
    from engine.storage import s3

    place = bucket_object(url)
    with s3.source_errors():
        head = s3.client(s3.Access.from_settings(settings())).head_object(Bucket=place.bucket, Key=place.key)
    return int(head["ContentLength"])


def _in_google(url: str) -> int:
    from engine.storage import gcs

    place = bucket_object(url)
    with gcs.source_errors():
        blob = gcs.client(_google_key()).bucket(place.bucket).blob(place.key)
        blob.reload(timeout=TIMEOUT, retry=None)
    return int(blob.size)


def _google_key() -> str | None:
    key = settings().gcs_credentials_json
    return key.get_secret_value() if key else None


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()
