"""Google Cloud Storage over a small server that speaks its API."""

import json
import os
import re
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from engine.errors import Cancelled, SourceForbidden, SourceNotFound, SourceTooLarge, SourceUnreachable, UploadFailed
from engine.settings import Settings
from engine.storage import gcs
from engine.storage.deliver import Delivered, Deliverer
from engine.storage.destinations import GcsPlace
from engine.storage.fetch import Fetcher
from engine.storage.patience import Patience
from tests.storage.gcs_server import GcsServer
from tests.storage.servers import Handler, Seen, answer, drop, serving

CONTENT = os.urandom(3_000_000)
LARGE = os.urandom(18_000_000)


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    with serving(GcsServer(buckets={"films": {}})) as server:
        assert isinstance(server, GcsServer)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url(""))
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        gcs.client.cache_clear()
        yield server
        gcs.client.cache_clear()


@pytest.fixture
def fetcher(settings: Settings, patience: Patience) -> Fetcher:
    return Fetcher(settings, patience=patience)


@pytest.fixture
def deliverer(settings: Settings, naps: list[float]) -> Deliverer:
    return Deliverer(settings, patience=Patience(tries=3, sleep=naps.append))


def deliver(deliverer: Deliverer, path: Path, place: GcsPlace, **more: object) -> Delivered:
    return deliverer.deliver(
        path,
        place,
        job_id="job-1",
        filename="clip.mp4",
        content_type="video/mp4",
        expires_s=600,
        **more,  # type: ignore[arg-type]
    )


def service_account(google: GcsServer) -> SecretStr:
    """The key file of an account that this test has just made up; its tokens come from the test's server."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "client_email": "worker@example.iam.gserviceaccount.com",
        "private_key": pem,
        "private_key_id": "1",
        "token_uri": google.url("/token"),
    }
    return SecretStr(json.dumps(account))


def test_an_object_arrives_whole_under_its_own_name(fetcher: Fetcher, google: GcsServer, scratch: Path) -> None:
    google.store("films", "été/клип #1?.mp4", CONTENT, "video/mp4")
    got = fetcher.fetch("gs://films/été/клип #1?.mp4", scratch)
    assert (got.name, got.path.read_bytes()) == ("клип #1_.mp4", CONTENT)


@pytest.mark.parametrize(
    "url",
    [
        "https://storage.googleapis.com/films/a/%C3%A9t%C3%A9.mp4",
        "https://films.storage.googleapis.com/a/%C3%A9t%C3%A9.mp4",
        "https://storage.cloud.google.com/films/a/%C3%A9t%C3%A9.mp4?authuser=1",
    ],
)
def test_web_addresses_of_objects_go_the_same_way(fetcher: Fetcher, google: GcsServer, scratch: Path, url: str) -> None:
    google.store("films", "a/été.mp4", CONTENT, "video/mp4")
    assert fetcher.fetch(url, scratch).path.read_bytes() == CONTENT


def test_a_signed_web_address_is_plain_https(settings: Settings, google: GcsServer, scratch: Path) -> None:
    fetcher = Fetcher(settings, resolve=lambda host, port: [], patience=Patience(tries=1))
    with pytest.raises(SourceUnreachable, match="googleapis"):
        fetcher.fetch("https://storage.googleapis.com/films/a.mp4?X-Goog-Signature=abc", scratch)
    assert google.seen == []


def test_a_dropped_download_is_resumed_within_one_generation(
    fetcher: Fetcher, google: GcsServer, scratch: Path
) -> None:
    def half(handler: Handler, seen: Seen) -> None:
        handler.reply(200, CONTENT[:1_500_000], Content_Length=str(len(CONTENT)))
        handler.wfile.flush()
        handler.hang_up()

    google.store("films", "a.mp4", CONTENT, "video/mp4")
    google.faults.append(("alt=media", half))
    assert fetcher.fetch("gs://films/a.mp4", scratch).path.read_bytes() == CONTENT
    asked = [seen for seen in google.seen if "alt=media" in seen.path]
    assert len(asked) == 2
    begin = re.fullmatch(r"bytes=(\d+)-", asked[1].headers["range"])
    assert begin and 1_490_000 < int(begin[1]) <= 1_500_000
    assert "ifGenerationMatch=1" in asked[1].path


def test_an_object_that_does_not_match_its_checksum_is_not_accepted(
    fetcher: Fetcher, google: GcsServer, scratch: Path
) -> None:
    google.store("films", "a.mp4", CONTENT, "video/mp4")
    google.faults.append(("alt=media", answer(200, b"\0" * len(CONTENT))))
    assert fetcher.fetch("gs://films/a.mp4", scratch).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "error"), [(403, SourceForbidden), (401, SourceForbidden), (400, SourceUnreachable)]
)
def test_refusals_have_their_codes(
    fetcher: Fetcher, google: GcsServer, scratch: Path, status: int, error: type[Exception]
) -> None:
    google.faults.append(("GET", answer(status, b"{}")))
    with pytest.raises(error):
        fetcher.fetch("gs://films/a.mp4", scratch)
    assert not list(scratch.iterdir())


def test_a_missing_object_is_not_found_and_a_large_one_not_begun(
    settings: Settings, google: GcsServer, scratch: Path
) -> None:
    with pytest.raises(SourceNotFound):
        Fetcher(settings).fetch("gs://films/none.mp4", scratch)
    google.store("films", "a.mp4", CONTENT, "video/mp4")
    with pytest.raises(SourceTooLarge):
        Fetcher(settings.model_copy(update={"max_input_bytes": 1000})).fetch("gs://films/a.mp4", scratch)
    assert not any("alt=media" in seen.path for seen in google.seen)


def test_a_server_that_fails_for_long_is_unreachable(fetcher: Fetcher, google: GcsServer, scratch: Path) -> None:
    google.faults += [("GET", answer(503, b"{}"))] * 5
    with pytest.raises(SourceUnreachable):
        fetcher.fetch("gs://films/a.mp4", scratch)
    assert len(google.seen) == 5


def test_without_credentials_nobody_knocks_at_the_metadata_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "K_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setattr(gcs, "_MACHINE", tmp_path / "none")
    monkeypatch.setattr("google.auth.default", lambda **_: pytest.fail("it would knock"))
    assert type(gcs._credentials(None)).__name__ == "AnonymousCredentials"


def test_credentials_that_are_no_key_are_said_to_be_so(settings: Settings, scratch: Path) -> None:
    for text in ("not json", "{}", '{"type": "service_account"}'):
        broken = settings.model_copy(update={"gcs_credentials_json": SecretStr(text)})
        with pytest.raises(SourceForbidden, match="credentials"):
            Fetcher(broken).fetch("gs://films/a.mp4", scratch)
        with pytest.raises(UploadFailed, match="credentials"):
            Deliverer(broken).check(GcsPlace("films"))


def test_a_service_account_is_used_and_its_links_open(
    settings: Settings, google: GcsServer, scratch: Path, tmp_path: Path
) -> None:
    google.token = "ya29.test"
    own = settings.model_copy(update={"gcs_credentials_json": service_account(google)})
    path = tmp_path / "out.mp4"
    path.write_bytes(CONTENT)
    delivered = deliver(Deliverer(own), path, GcsPlace("films", "results"))
    assert delivered.key == "results/job-1/clip.mp4"
    assert delivered.expires_at and 590 < (delivered.expires_at - datetime.now(UTC)).total_seconds() <= 600
    with urllib.request.urlopen(delivered.url) as response:
        assert response.read() == CONTENT
        assert response.headers["Content-Type"] == "video/mp4"
    assert Fetcher(own).fetch("gs://films/results/job-1/clip.mp4", scratch).path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["one request", "chunks"])
def test_a_result_without_a_signing_key_is_answered_as_gs(
    deliverer: Deliverer, google: GcsServer, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(content)
    steps: list[int] = []
    got = deliver(deliverer, path, GcsPlace("films"), progress=lambda done, total: steps.append(done))
    assert got == Delivered("gs://films/job-1/clip.mp4", None, "films", "job-1/clip.mp4")
    assert google.buckets["films"]["job-1/clip.mp4"].body == content
    assert google.buckets["films"]["job-1/clip.mp4"].content_type == "video/mp4"
    assert steps[-1] == len(content)
    assert "no key to sign" in caplog.text


def test_a_public_base_makes_the_link(deliverer: Deliverer, google: GcsServer, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"x")
    got = deliver(deliverer, path, GcsPlace("films", key="été/a b.mp4", public_base="https://cdn.example.org/"))
    assert got.url == "https://cdn.example.org/%C3%A9t%C3%A9/a%20b.mp4"


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["one request", "chunks"])
def test_an_upload_dropped_twice_succeeds_the_third_time(
    deliverer: Deliverer, google: GcsServer, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(content)
    google.faults += [("POST", drop(10)), ("POST", answer(503, b"{}"))]
    deliver(deliverer, path, GcsPlace("films"))
    assert google.buckets["films"]["job-1/clip.mp4"].body == content


def test_a_refused_upload_fails_at_once(deliverer: Deliverer, google: GcsServer, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(CONTENT)
    google.faults.append(("POST", answer(403, b"{}")))
    with pytest.raises(UploadFailed, match="403"):
        deliver(deliverer, path, GcsPlace("films"))
    assert len(google.seen) == 1


def test_a_cancelled_upload_leaves_no_object(deliverer: Deliverer, google: GcsServer, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(LARGE)
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        deliver(deliverer, path, GcsPlace("films"), check=check)
    assert google.buckets["films"] == {}


def test_the_check_asks_for_the_right_to_upload_and_leaves_nothing(deliverer: Deliverer, google: GcsServer) -> None:
    deliverer.check(GcsPlace("films", "results"))
    assert google.buckets["films"] == {}
    assert google.sessions == {}
    assert [seen.method for seen in google.seen] == ["POST", "DELETE"]
    assert "results" in google.seen[0].path + google.seen[0].body.decode()
    google.faults.append(("POST", answer(403, b"{}")))
    with pytest.raises(UploadFailed):
        deliverer.check(GcsPlace("films"))
    with pytest.raises(UploadFailed, match="404"):
        deliverer.check(GcsPlace("nowhere"))


def test_result_json_lies_beside_the_result(deliverer: Deliverer, google: GcsServer) -> None:
    deliverer.deliver_json(b"{}", GcsPlace("films", "results"), job_id="job-1")
    deliverer.deliver_json(b"{}", GcsPlace("films", key="own/name.mp4"), job_id="job-1")
    assert set(google.buckets["films"]) == {"results/job-1/result.json", "own/result.json"}
    assert google.buckets["films"]["own/result.json"].content_type == "application/json"
