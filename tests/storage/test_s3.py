"""S3 against moto's server, with a relay in between that fails on demand."""

import os
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from engine.errors import (
    Cancelled,
    JobError,
    SourceBlocked,
    SourceForbidden,
    SourceNotFound,
    SourceTooLarge,
    SourceUnreachable,
    UploadFailed,
)
from engine.settings import Settings
from engine.storage import s3
from engine.storage.deliver import Delivered, Deliverer
from engine.storage.destinations import S3Place, destination
from engine.storage.fetch import Fetcher
from engine.storage.patience import Patience
from engine.storage.s3_upload import presigned, with_region
from tests.storage.s3_server import S3Server, contents, owner, s3_serving, unfinished
from tests.storage.servers import Handler, Seen, answer, drop

CONTENT = os.urandom(3_000_000)
LARGE = os.urandom(20_000_000)  # two parts


@pytest.fixture(scope="module")
def running() -> Iterator[S3Server]:
    with s3_serving("films") as server:
        yield server


@pytest.fixture
def bucket(running: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The bucket, empty again, and no credentials of this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for key in contents(running, "films"):
        owner(running).delete_object(Bucket="films", Key=key)
    running.seen.clear()
    running.faults.clear()
    s3.client.cache_clear()
    return running


@pytest.fixture
def worker(settings: Settings, bucket: S3Server) -> Settings:
    """A worker whose operator configured the bucket; its endpoint is private and needs no exemption."""
    return settings.model_copy(
        update={
            "bucket_url": "s3://films/results",
            "bucket_endpoint_url": bucket.url(""),
            "bucket_access_key_id": SecretStr("key"),
            "bucket_secret_access_key": SecretStr("hunter2"),
            "allowed_hosts": frozenset(),
        }
    )


@pytest.fixture
def place(worker: Settings) -> S3Place:
    found = destination(None, None, worker)
    assert isinstance(found, S3Place)
    return found


@pytest.fixture
def fetcher(worker: Settings, patience: Patience) -> Fetcher:
    return Fetcher(worker, patience=patience)


@pytest.fixture
def deliverer(worker: Settings, naps: list[float]) -> Deliverer:
    return Deliverer(worker, patience=Patience(tries=3, sleep=naps.append))


def put(bucket: S3Server, key: str, body: bytes) -> None:
    owner(bucket).put_object(Bucket="films", Key=key, Body=body)


def result(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "out.mp4"
    path.write_bytes(content)
    return path


def deliver(deliverer: Deliverer, path: Path, place: S3Place, **more: Any) -> Delivered:
    options = {"job_id": "job-1", "filename": "clip.mp4", "content_type": "video/mp4", "expires_s": 600}
    return deliverer.deliver(path, place, **(options | more))


def test_an_object_arrives_whole_under_its_own_name(fetcher: Fetcher, bucket: S3Server, scratch: Path) -> None:
    put(bucket, "été/клип #1?.mp4", CONTENT)
    got = fetcher.fetch("s3://films/été/клип #1?.mp4", scratch)
    assert (got.name, got.path.read_bytes()) == ("клип #1_.mp4", CONTENT)


def test_a_dropped_download_is_resumed(fetcher: Fetcher, bucket: S3Server, scratch: Path) -> None:
    put(bucket, "a.mp4", CONTENT)
    etag = owner(bucket).head_object(Bucket="films", Key="a.mp4")["ETag"]

    def half(handler: Handler, seen: Seen) -> None:
        handler.reply(200, CONTENT[:2_000_000], Content_Length=str(len(CONTENT)), ETag=etag)
        handler.wfile.flush()
        handler.hang_up()

    bucket.faults.append(("GET /films/a.mp4", half))
    assert fetcher.fetch("s3://films/a.mp4", scratch).path.read_bytes() == CONTENT
    first, second = bucket.asked("GET /films/a.mp4")
    assert "range" not in first.headers
    begin = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 900_000 < begin <= 2_000_000
    assert second.headers["if-match"] == etag


def test_an_object_replaced_in_the_middle_is_not_glued_together(
    fetcher: Fetcher, bucket: S3Server, scratch: Path
) -> None:
    put(bucket, "a.mp4", CONTENT)
    other = os.urandom(2_500_000)

    def half(handler: Handler, seen: Seen) -> None:
        handler.reply(200, CONTENT[:2_000_000], Content_Length=str(len(CONTENT)))
        handler.wfile.flush()
        handler.hang_up()
        put(bucket, "a.mp4", other)

    bucket.faults.append(("GET /films/a.mp4", half))
    assert fetcher.fetch("s3://films/a.mp4", scratch).path.read_bytes() == other


@pytest.mark.parametrize(("status", "error"), [(403, SourceForbidden), (404, SourceNotFound), (400, SourceUnreachable)])
def test_refusals_have_their_codes(
    fetcher: Fetcher, bucket: S3Server, scratch: Path, status: int, error: type[JobError]
) -> None:
    bucket.faults += [("HEAD /films/a.mp4", answer(status))] * 2  # botocore asks twice where the region may be wrong
    with pytest.raises(error) as caught:
        fetcher.fetch("s3://films/a.mp4", scratch)
    assert "hunter2" not in caught.value.message
    assert len(bucket.asked("HEAD /films/a.mp4")) == (2 if status == 400 else 1)
    assert not list(scratch.iterdir())


def test_a_missing_object_is_not_found_and_a_large_one_not_begun(
    worker: Settings, bucket: S3Server, scratch: Path
) -> None:
    with pytest.raises(SourceNotFound):
        Fetcher(worker).fetch("s3://films/none.mp4", scratch)
    with pytest.raises(SourceNotFound):
        Fetcher(worker).fetch("s3://nowhere/none.mp4", scratch)
    put(bucket, "a.mp4", CONTENT)
    with pytest.raises(SourceTooLarge):
        Fetcher(worker.model_copy(update={"max_input_bytes": 1000})).fetch("s3://films/a.mp4", scratch)
    assert not bucket.asked("GET")


def test_a_bucket_that_fails_for_long_is_unreachable(fetcher: Fetcher, bucket: S3Server, scratch: Path) -> None:
    bucket.faults += [("HEAD", answer(503))] * 4 + [("HEAD", drop())]
    with pytest.raises(SourceUnreachable):
        fetcher.fetch("s3://films/a.mp4", scratch)
    assert len(bucket.seen) == 5


def test_without_credentials_public_objects_are_read_unsigned(
    worker: Settings, bucket: S3Server, scratch: Path
) -> None:
    nobody = worker.model_copy(update={"bucket_access_key_id": None, "bucket_secret_access_key": None})
    owner(bucket).put_object(Bucket="films", Key="a.mp4", Body=CONTENT, ACL="public-read")
    assert Fetcher(nobody).fetch("s3://films/a.mp4", scratch).bytes == len(CONTENT)
    assert all("authorization" not in seen.headers for seen in bucket.seen)


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["one request", "multipart"])
def test_a_result_is_stored_with_its_type_and_linked(
    deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path, content: bytes
) -> None:
    steps: list[int] = []
    got = deliver(deliverer, result(tmp_path, content), place, progress=lambda done, total: steps.append(done))
    assert (got.bucket, got.key) == ("films", "results/job-1/clip.mp4")
    stored = contents(bucket, "films")
    assert list(stored) == ["results/job-1/clip.mp4"]
    assert stored["results/job-1/clip.mp4"]["ContentType"] == "video/mp4"
    assert stored["results/job-1/clip.mp4"]["ContentDisposition"] == "inline"
    assert steps[-1] == len(content)
    assert got.expires_at and 590 < (got.expires_at - datetime.now(UTC)).total_seconds() <= 600
    query = parse_qs(urlsplit(got.url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["600"]
    assert query["X-Amz-Credential"][0].split("/")[2] == "us-east-1"
    with urllib.request.urlopen(got.url) as response:
        assert response.read() == content
    assert unfinished(bucket, "films") == []


def test_a_repeated_job_overwrites(deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path) -> None:
    deliver(deliverer, result(tmp_path, b"first"), place)
    deliver(deliverer, result(tmp_path, b"second"), place)
    assert [entry["Body"].read() for entry in contents(bucket, "films").values()] == [b"second"]


def test_a_public_base_makes_the_link(worker: Settings, bucket: S3Server, tmp_path: Path) -> None:
    public = worker.model_copy(update={"public_base_url": "https://cdn.example.org"})
    place = destination(None, None, public)
    assert isinstance(place, S3Place)
    got = deliver(Deliverer(public), result(tmp_path, b"x"), place, filename="été 1.mp4")
    assert (got.url, got.expires_at) == ("https://cdn.example.org/results/job-1/%C3%A9t%C3%A9%201.mp4", None)


def test_path_tricks_in_names_stay_within_the_jobs_own_prefix(
    deliverer: Deliverer, place: S3Place, bucket: S3Server, tmp_path: Path
) -> None:
    got = deliver(deliverer, result(tmp_path, b"x"), place, filename="../../../etc/été\r\n.mp4", job_id="../job")
    assert got.key == "results/_job/_.._.._etc_été.mp4"
    assert list(contents(bucket, "films")) == [got.key]


@pytest.mark.parametrize("fault", [drop(1000), answer(503)], ids=["dropped", "busy"])
def test_an_upload_that_fails_twice_succeeds_the_third_time(
    deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path, naps: list[float], fault: Any
) -> None:
    bucket.faults += [("PUT", fault)] * 2
    deliver(deliverer, result(tmp_path, CONTENT), place)
    assert len(bucket.asked("PUT")) == 3
    assert len(naps) >= 2


def test_a_multipart_upload_that_fails_twice_succeeds_and_leaves_no_parts(
    deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path
) -> None:
    bucket.faults += [("partNumber=2", drop(1000)), ("partNumber=2", answer(500))]
    deliver(deliverer, result(tmp_path, LARGE), place)
    assert len(bucket.asked("POST /films/results/job-1/clip.mp4?uploads")) == 3
    assert unfinished(bucket, "films") == []
    assert contents(bucket, "films")["results/job-1/clip.mp4"]["Body"].read() == LARGE


def test_a_multipart_upload_that_keeps_failing_leaves_no_parts(
    deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path
) -> None:
    bucket.faults += [("partNumber=2", answer(500))] * 3
    with pytest.raises(UploadFailed, match="3 times"):
        deliver(deliverer, result(tmp_path, LARGE), place)
    assert unfinished(bucket, "films") == []
    assert contents(bucket, "films") == {}


def test_parts_are_aborted_even_when_the_first_abort_fails(
    deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path
) -> None:
    bucket.faults += [("partNumber=2", answer(403)), ("DELETE", answer(500))]
    with pytest.raises(UploadFailed):
        deliver(deliverer, result(tmp_path, LARGE), place)
    assert len(bucket.asked("DELETE")) == 2
    assert unfinished(bucket, "films") == []


def test_a_cancelled_multipart_upload_leaves_nothing(
    deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path
) -> None:
    def slow(handler: Handler, seen: Seen) -> None:
        handler.body(seen)
        begun.append(seen.path)
        handler.reply(500)

    begun: list[str] = []
    bucket.faults.append(("partNumber=1", slow))

    def check() -> None:
        if begun:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        deliver(deliverer, result(tmp_path, LARGE), place, check=check)
    assert unfinished(bucket, "films") == []
    assert contents(bucket, "films") == {}


def test_a_refused_upload_fails_at_once_and_tells_no_secret(
    deliverer: Deliverer, bucket: S3Server, place: S3Place, tmp_path: Path
) -> None:
    denied = answer(403, b"<Error><Code>AccessDenied</Code></Error>", Content_Type="application/xml")
    bucket.faults.append(("PUT", denied))
    with pytest.raises(UploadFailed, match="403 AccessDenied") as caught:
        deliver(deliverer, result(tmp_path, CONTENT), place)
    assert len(bucket.seen) == 1
    assert "hunter2" not in caught.value.message
    assert "hunter2" not in repr(place)


def test_the_check_asks_for_the_right_to_upload_and_leaves_nothing(
    deliverer: Deliverer, bucket: S3Server, place: S3Place
) -> None:
    deliverer.check(place)
    assert [seen.method for seen in bucket.seen] == ["POST", "DELETE"]
    assert bucket.seen[0].path.startswith("/films/results/")
    assert contents(bucket, "films") == {}
    assert unfinished(bucket, "films") == []


def test_the_check_fails_before_any_work_where_the_upload_would(
    deliverer: Deliverer, bucket: S3Server, worker: Settings
) -> None:
    elsewhere = destination({"bucket": "s3://nowhere"}, None, worker)
    with pytest.raises(UploadFailed, match="404 NoSuchBucket"):
        deliverer.check(elsewhere)  # type: ignore[arg-type]
    nobody = worker.model_copy(update={"bucket_access_key_id": None, "bucket_secret_access_key": None})
    bucket.faults.append(("POST", answer(403)))
    with pytest.raises(UploadFailed, match="403"):
        Deliverer(nobody).check(destination(None, None, nobody))  # type: ignore[arg-type]


def test_result_json_lies_beside_the_result(deliverer: Deliverer, bucket: S3Server, worker: Settings) -> None:
    deliverer.deliver_json(b"{}", destination(None, None, worker), job_id="job-1")  # type: ignore[arg-type]
    own = destination({"bucket": "s3://films", "key": "own/name.mp4"}, None, worker)
    deliverer.deliver_json(b"{}", own, job_id="job-1")  # type: ignore[arg-type]
    stored = contents(bucket, "films")
    assert set(stored) == {"results/job-1/result.json", "own/result.json"}
    assert stored["own/result.json"]["ContentType"] == "application/json"


def test_s3_config_is_honoured_but_its_endpoint_must_be_public(
    settings: Settings, bucket: S3Server, tmp_path: Path
) -> None:
    config = {"accessId": "key", "accessSecret": "hunter2", "bucketName": "films", "endpointUrl": bucket.url("/films")}
    place = destination(None, config, settings)
    assert isinstance(place, S3Place)
    with pytest.raises(SourceBlocked) as caught:
        Deliverer(settings).check(place)
    assert caught.value.field == "s3Config.endpointUrl"
    with pytest.raises(SourceBlocked):
        deliver(Deliverer(settings), result(tmp_path, b"x"), place)
    assert bucket.seen == []
    opened = settings.model_copy(update={"allowed_hosts": frozenset({bucket.host})})
    Deliverer(opened).check(place)
    got = deliver(Deliverer(opened), result(tmp_path, b"x"), place)
    assert got.key == "job-1/clip.mp4"
    assert list(contents(bucket, "films")) == ["job-1/clip.mp4"]


def test_a_callers_endpoint_is_guarded_where_it_is_dialled_too(
    settings: Settings, bucket: S3Server, tmp_path: Path
) -> None:
    """The name is public when it is looked at beforehand and private when the connection is made."""
    answers = iter([["8.8.8.8"]])
    config = {"accessId": "key", "accessSecret": "hunter2", "bucketName": "films"}
    place = destination(None, config | {"endpointUrl": f"http://rebind.example:{bucket.server_port}"}, settings)
    assert place is not None
    deliverer = Deliverer(settings, resolve=lambda host, port: next(answers, ["127.0.0.1"]))
    with pytest.raises(SourceBlocked) as caught:
        deliverer.check(place)
    assert caught.value.field == "s3Config.endpointUrl"
    assert bucket.seen == []


@pytest.mark.parametrize(
    ("url", "bucket_name", "expected"),
    [
        ("https://films.s3.eu-west-1.amazonaws.com", None, s3.Endpoint(None, "films", "", "eu-west-1")),
        ("https://films.s3.eu-west-1.amazonaws.com/", "films", s3.Endpoint(None, "films", "", "eu-west-1")),
        ("https://s3.eu-west-1.amazonaws.com/films/in", None, s3.Endpoint(None, "films", "in", "eu-west-1")),
        ("https://s3-eu-west-1.amazonaws.com", "films", s3.Endpoint(None, "films", "", "eu-west-1")),
        ("https://my.films.s3.amazonaws.com", None, s3.Endpoint(None, "my.films", "", None)),
        ("s3.us-east-2.amazonaws.com", "films", s3.Endpoint(None, "films", "", "us-east-2")),
        (
            "https://films.0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com",
            None,
            s3.Endpoint("https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", "films", "", "auto"),
        ),
        (
            "https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com/films",
            "films",
            s3.Endpoint("https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com", "films", "", "auto"),
        ),
        (
            "https://s3.us-west-004.backblazeb2.com",
            "films",
            s3.Endpoint("https://s3.us-west-004.backblazeb2.com", "films", "", "us-west-004"),
        ),
        (
            "https://films.nyc3.digitaloceanspaces.com",
            None,
            s3.Endpoint("https://nyc3.digitaloceanspaces.com", "films", "", "nyc3"),
        ),
        (
            "https://s3api-eu-ro-1.runpod.io",
            "vol1",
            s3.Endpoint("https://s3api-eu-ro-1.runpod.io", "vol1", "", "eu-ro-1"),
        ),
        ("https://minio.example:9000/films/in/sub", None, s3.Endpoint("https://minio.example:9000", "films", "in/sub")),
        ("https://films.minio.example", "films", s3.Endpoint("https://minio.example", "films")),
        ("http://minio.example:9000/", "films", s3.Endpoint("http://minio.example:9000", "films")),
        ("http://[::1]:9000/films", None, s3.Endpoint("http://[::1]:9000", "films")),
        (None, "films", s3.Endpoint(None, "films")),
    ],
)
def test_endpoints_are_understood_however_people_write_them(
    url: str | None, bucket_name: str | None, expected: s3.Endpoint
) -> None:
    assert s3.split_endpoint(url, bucket_name) == expected


def test_a_link_into_amazons_cloud_is_signed_for_the_buckets_region() -> None:
    for bucket, start in (
        ("films", "films.s3.eu-west-1.amazonaws.com/"),
        ("my.films", "s3.eu-west-1.amazonaws.com/my.films/"),
    ):
        url = presigned(s3.Access(None, "key", "secret", "eu-west-1"), bucket, "a b/é.mp4", 60)
        assert url.startswith(f"https://{start}a%20b/%C3%A9.mp4?")
        assert parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].split("/")[2] == "eu-west-1"


def test_the_region_of_a_bucket_is_asked_for_where_nobody_named_it(
    bucket: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amazon's own endpoint, played by the relay: a refusal names the region as well."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.url(""))
    bucket.faults.append(("HEAD", answer(403, X_Amz_Bucket_Region="ap-southeast-2")))
    found = with_region(s3.Access(None, "key", "secret"), "films")
    assert found == s3.Access(None, "key", "secret", "ap-southeast-2")
    assert with_region(found, "films") is found
