"""Which place a job means, and results into folders, replies and presigned URLs."""

import base64
import os
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from engine.errors import Cancelled, DiskFull, InvalidInput, JobError, NoDestination, SourceBlocked, UploadFailed
from engine.settings import Settings
from engine.storage.deliver import INLINE_BYTES, Delivered, Deliverer
from engine.storage.destinations import FolderPlace, GcsPlace, InlinePlace, Place, PutPlace, S3Place, destination
from engine.storage.patience import Patience
from tests.storage.servers import Handler, Seen, Server, answer, drop

CONTENT = os.urandom(3_000_000)
CONFIG = {"accessId": "id", "accessSecret": "hunter2", "bucketName": "films", "endpointUrl": "https://s3.example.org"}


@pytest.fixture
def deliverer(settings: Settings, naps: list[float]) -> Deliverer:
    return Deliverer(settings, patience=Patience(tries=3, sleep=naps.append))


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "out.mp4"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def root(settings: Settings) -> Path:
    settings.roots[0].mkdir()
    return settings.roots[0].resolve()


def deliver(deliverer: Deliverer, path: Path, place: Place, **more: Any) -> Delivered:
    options = {"job_id": "job-1", "filename": "клип 1.mp4", "content_type": "video/mp4", "expires_s": 600}
    return deliverer.deliver(path, place, **(options | more))


def test_the_jobs_own_destination_wins_then_s3_config_then_the_worker(settings: Settings) -> None:
    configured = settings.model_copy(update={"bucket_url": "gs://ours/results", "public_base_url": "https://cdn"})
    assert destination("inline", CONFIG, configured) == InlinePlace()
    assert destination(None, CONFIG, configured) == S3Place(
        "films", endpoint="https://s3.example.org", access_key="id", secret_key="hunter2"
    )
    assert destination(None, None, configured) == GcsPlace("ours", "results", public_base="https://cdn")
    assert destination(None, None, settings) == FolderPlace(settings.output_dir, local=True)
    on_runpod = settings.model_copy(update={"runpod_webhook_get_job": "https://api.runpod.ai"})
    assert destination(None, None, on_runpod) is None


def test_a_bucket_named_by_the_job_uses_the_credentials_that_came_with_it(settings: Settings) -> None:
    own = settings.model_copy(
        update={
            "bucket_access_key_id": SecretStr("ours"),
            "bucket_secret_access_key": SecretStr("secret"),
            "bucket_region": "eu-west-1",
            "public_base_url": "https://cdn",
        }
    )
    wanted = {"bucket": "s3://films/cut/", "key": "e\u0301te\u0301.mp4"}
    theirs = destination(wanted, CONFIG, own)
    assert theirs == S3Place("films", "cut", "été.mp4", "https://s3.example.org", "id", "hunter2")
    assert destination(wanted, None, own) == S3Place(
        "films", "cut", "été.mp4", None, "ours", "secret", "eu-west-1", trusted=True
    )
    assert destination({"bucket": "gs://films"}, CONFIG, own) == GcsPlace("films")


def test_a_bucket_written_into_the_endpoint_is_the_workers_bucket(settings: Settings) -> None:
    own = settings.model_copy(
        update={"bucket_endpoint_url": "https://films.s3.eu-west-1.amazonaws.com", "runpod_webhook_get_job": "x"}
    )
    place = destination(None, None, own)
    assert isinstance(place, S3Place)
    assert (place.bucket, place.endpoint, place.region, place.prefix) == ("films", None, "eu-west-1", "")


@pytest.mark.parametrize(
    ("requested", "field"),
    [
        ({}, "destination"),
        ("elsewhere", "destination"),
        ({"bucket": "films"}, "destination.bucket"),
        ({"bucket": "ftp://films"}, "destination.bucket"),
        ({"bucket": "s3://"}, "destination.bucket"),
        ({"bucket": "s3://films/../up"}, "destination.bucket"),
        ({"bucket": "s3://films", "key": "../up"}, "destination.key"),
        ({"bucket": "s3://films", "key": "/up"}, "destination.key"),
        ({"put_url": "file:///etc/passwd"}, "destination.put_url"),
        ({"put_url": "s3://films/x"}, "destination.put_url"),
    ],
)
def test_destinations_that_cannot_be_are_refused(settings: Settings, requested: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        destination(requested, None, settings)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"accessId": ""}, "s3Config.accessId"),
        ({"accessSecret": None}, "s3Config.accessSecret"),
        ({"bucketName": ""}, "s3Config.bucketName"),
        ({"bucketName": "../x"}, "s3Config.bucketName"),
        ({"endpointUrl": "ftp://s3.example.org"}, "s3Config.endpointUrl"),
        ({"endpointUrl": "https://[::1"}, "s3Config.endpointUrl"),
        ({"endpointUrl": "https://s3.example.org:port"}, "s3Config.endpointUrl"),
    ],
)
def test_a_broken_s3_config_names_its_field(settings: Settings, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        destination(None, CONFIG | change, settings)
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value.reply())


@pytest.mark.parametrize("name", ["../x", "s3://films", "films/cut", "my films", "ab"])
def test_a_wrong_bucket_name_is_told_what_one_looks_like(settings: Settings, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        destination(None, CONFIG | {"bucketName": name}, settings)
    (problem,) = caught.value.problems
    assert problem.field == "s3Config.bucketName"
    assert problem.text.startswith("must be a bucket's bare name: letters, digits,")


def test_the_local_folder_gets_the_result_and_its_json(
    settings: Settings, tmp_path: Path, result: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = settings.model_copy(update={"output_dir": tmp_path / "outputs"})
    place = destination(None, None, own)
    assert place
    deliverer = Deliverer(own)
    deliverer.check(place)
    assert not (tmp_path / "outputs").exists()
    got = deliver(deliverer, result, place)
    deliverer.deliver_json(b"{}", place, job_id="job-1")
    folder = tmp_path / "outputs" / "job-1"
    assert got == Delivered((folder / "клип 1.mp4").as_uri())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"клип 1.mp4": CONTENT, "result.json": b"{}"}


def test_a_volume_must_lie_under_an_allowed_root(deliverer: Deliverer, root: Path, result: Path) -> None:
    (root / "out").symlink_to("/tmp")
    for path in ("/etc", "../elsewhere", str(root / ".." / "elsewhere"), str(root / "out")):
        place = FolderPlace(Path(path))
        for attempt in (
            lambda place=place: deliverer.check(place),
            lambda place=place: deliver(deliverer, result, place),
        ):
            with pytest.raises(NoDestination) as caught:
                attempt()
            assert str(root.parent) not in caught.value.message
    deliverer.check(FolderPlace(Path("films")))
    assert deliver(deliverer, result, FolderPlace(root / "films")).url == (root / "films/job-1/клип 1.mp4").as_uri()
    assert deliver(deliverer, result, FolderPlace(Path("films"))).url == (root / "films/job-1/клип 1.mp4").as_uri()


@pytest.mark.parametrize(
    "filename", ["../../up.mp4", "/etc/up.mp4", "..", "a\\..\\b.mp4", "up\0.mp4", "u" * 400 + ".mp4"]
)
def test_path_tricks_in_filename_stay_in_the_jobs_folder(
    deliverer: Deliverer, root: Path, result: Path, filename: str
) -> None:
    deliver(deliverer, result, FolderPlace(root), filename=filename, job_id="../job/../../1")
    made = [p for p in root.rglob("*") if p.is_file()]
    assert len(made) == 1
    assert made[0].parent.parent == root


def test_a_file_appears_whole_or_not_at_all(deliverer: Deliverer, root: Path, result: Path) -> None:
    deliver(deliverer, result, FolderPlace(root), filename="a.mp4")
    result.write_bytes(b"other" * 1_000_000)
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 3:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        deliver(deliverer, result, FolderPlace(root), filename="a.mp4", check=check)
    assert {p.name: p.read_bytes() for p in (root / "job-1").iterdir()} == {"a.mp4": CONTENT}


def test_a_full_disk_is_named_and_left_clean(deliverer: Deliverer, root: Path, result: Path) -> None:
    (root / "job-1").mkdir()
    (root / "job-1" / "a.mp4.part").symlink_to("/dev/full")  # a real device that fails every write with ENOSPC
    with pytest.raises(DiskFull):
        deliver(deliverer, result, FolderPlace(root), filename="a.mp4")
    assert list((root / "job-1").iterdir()) == []


def test_a_folder_that_is_a_file_is_no_destination(deliverer: Deliverer, root: Path, result: Path) -> None:
    (root / "films").write_text("a file")
    with pytest.raises(NoDestination):
        deliver(deliverer, result, FolderPlace(root / "films"))
    with pytest.raises(NoDestination):
        deliverer.check(FolderPlace(root / "films"))


def test_a_small_result_travels_in_the_reply_and_a_large_one_is_refused(
    deliverer: Deliverer, result: Path, tmp_path: Path
) -> None:
    deliverer.check(InlinePlace())
    got = deliver(deliverer, result, InlinePlace())
    assert base64.b64decode(got.inline or "") == CONTENT
    assert got.url == ""
    (tmp_path / "large").write_bytes(b"x" * (INLINE_BYTES + 1))
    with pytest.raises(NoDestination, match="5,000,000"):  # which no second try would help
        deliver(deliverer, tmp_path / "large", InlinePlace())


def received(handler: Handler, seen: Seen) -> None:
    handler.body(seen)
    handler.reply(200)


def test_a_presigned_url_gets_length_type_and_body(deliverer: Deliverer, web: Server, result: Path) -> None:
    url = web.script("/films/a.mp4", received)
    steps: list[tuple[int, int | None]] = []
    place = PutPlace(f"{url}?X-Amz-Signature=secret")
    deliverer.check(place)
    assert web.seen == []
    got = deliver(deliverer, result, place, progress=lambda done, total: steps.append((done, total)))
    deliverer.deliver_json(b"{}", place, job_id="job-1")
    assert got == Delivered(url)
    assert len(web.seen) == 1
    assert web.seen[0].method == "PUT"
    assert web.seen[0].body == CONTENT
    assert web.seen[0].headers["content-type"] == "video/mp4"
    assert web.seen[0].headers["content-length"] == str(len(CONTENT))
    assert "transfer-encoding" not in web.seen[0].headers
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert "secret" not in repr(place)


def test_an_upload_dropped_twice_succeeds_the_third_time(
    deliverer: Deliverer, web: Server, result: Path, naps: list[float]
) -> None:
    url = web.script("/a.mp4", drop(1_000_000), drop(0), received)
    deliver(deliverer, result, PutPlace(url))
    assert web.seen[2].body == CONTENT
    assert len(web.seen) == 3
    assert len(naps) >= 2


def test_a_cancelled_upload_stops_within_a_piece(deliverer: Deliverer, web: Server, result: Path) -> None:
    url = web.script("/a.mp4", received)
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 3:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        deliver(deliverer, result, PutPlace(url), check=check)
    assert len(asked) == 4


def test_an_upload_that_keeps_failing_is_given_up(deliverer: Deliverer, web: Server, result: Path) -> None:
    url = web.script("/a.mp4", answer(500))
    with pytest.raises(UploadFailed, match="answered 500 to the upload, 3 times in a row") as caught:
        deliver(deliverer, result, PutPlace(f"{url}?sig=secret"))
    assert "secret" not in caught.value.message
    assert caught.value.reply()["retryable"] is True
    assert len(web.seen) == 3


def test_a_refused_upload_fails_at_once(deliverer: Deliverer, web: Server, result: Path) -> None:
    url = web.script("/a.mp4", answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"))
    with pytest.raises(UploadFailed, match="403 SignatureDoesNotMatch"):
        deliver(deliverer, result, PutPlace(url))
    assert len(web.seen) == 1


def test_a_put_follows_redirects_but_not_inside(deliverer: Deliverer, web: Server, result: Path) -> None:
    web.script("/b.mp4", received)
    url = web.script("/a.mp4", answer(307, Location="/b.mp4"))
    deliver(deliverer, result, PutPlace(url))
    assert web.seen[1].body == CONTENT
    web.script("/a.mp4", answer(307, Location="http://169.254.169.254/x"))
    with pytest.raises(SourceBlocked):
        deliver(deliverer, result, PutPlace(url))
    web.script("/a.mp4", answer(307, Location="/a.mp4"))
    with pytest.raises(UploadFailed, match="redirects"):
        deliver(deliverer, result, PutPlace(url))
    web.script("/a.mp4", answer(303, Location="/b.mp4"))
    with pytest.raises(UploadFailed, match="303"):
        deliver(deliverer, result, PutPlace(url))


def stamped(kind: str, age: timedelta, seconds: int) -> str:
    begin = (datetime.now(UTC) - age).strftime("%Y%m%dT%H%M%SZ")
    return f"X-{kind}-Date={begin}&X-{kind}-Expires={seconds}"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (stamped("Amz", timedelta(hours=2), 3600), NoDestination),
        (stamped("Goog", timedelta(hours=2), 3600), NoDestination),
        ("AWSAccessKeyId=k&Expires=1000000000&Signature=x", NoDestination),
        ("GoogleAccessId=k&Expires=1000000000", NoDestination),
        ("expires=3600", None),
        ("Expires=tomorrow&Signature=x", None),
        ("Expires=99999999999999999999&Signature=x", None),
        ("Signature=x", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=60", InvalidInput),
        ("X-Amz-Date=20260101T000000Z", InvalidInput),
        (stamped("Amz", timedelta(hours=2), 86_400), None),
        ("", None),
    ],
)
def test_an_expired_presigned_url_is_refused_before_the_work(
    deliverer: Deliverer, web: Server, query: str, error: type[JobError] | None
) -> None:
    place = PutPlace(web.url(f"/a.mp4?{query}"))
    if error is None:
        deliverer.check(place)
    else:
        with pytest.raises(error):
            deliverer.check(place)


def test_a_presigned_url_inside_is_blocked_before_and_during_the_work(deliverer: Deliverer, result: Path) -> None:
    for url in ("http://169.254.169.254/x", "http://localhost:9/x", "https://[::1]/x"):
        with pytest.raises(SourceBlocked) as before:
            deliverer.check(PutPlace(url))
        with pytest.raises(SourceBlocked) as during:
            deliver(deliverer, result, PutPlace(url))
        assert before.value.field == during.value.field == "destination.put_url"


def test_a_name_that_cannot_be_resolved_fails_the_check(settings: Settings, naps: list[float]) -> None:
    deliverer = Deliverer(settings, resolve=lambda host, port: [], patience=Patience(tries=3, sleep=naps.append))
    with pytest.raises(UploadFailed, match="nowhere"):
        deliverer.check(PutPlace("https://nowhere.example/x"))


def test_a_large_upload_needs_little_memory(deliverer: Deliverer, web: Server, tmp_path: Path) -> None:
    def swallow(handler: Handler, seen: Seen) -> None:
        left = int(handler.headers["Content-Length"])
        while left:
            left -= len(handler.rfile.read(min(left, 65536)))
        handler.reply(200)

    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(40_000_000)
    url = web.script("/a.mp4", swallow)
    tracemalloc.start()
    try:
        deliver(deliverer, path, PutPlace(url))
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()
