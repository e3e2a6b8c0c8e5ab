"""Baking from buckets: real protocols of S3 and Google Cloud Storage, and what an earlier run left of an object."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.storage import gcs
from tests.builder.baking import Bake, of, runner, there
from tests.builder.mirror import FILES, HERE, SIZE, catalog
from tests.storage.gcs_server import GcsServer
from tests.storage.s3_server import S3Server, owner, s3_serving
from tests.storage.servers import serving

A, SHARED = FILES["a.pth"], "deep/both.pth"
HALF = SIZE // 2


@pytest.fixture(scope="module")
def running() -> Iterator[S3Server]:
    with s3_serving("weights") as server:
        for key, content in FILES.items():
            owner(server).put_object(Bucket="weights", Key=f"models/{key}", Body=content)
        yield server


@pytest.fixture
def bucket(running: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BUCKET_ENDPOINT_URL", running.url(""))
    monkeypatch.setenv("BUCKET_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", "hunter2")
    running.seen.clear()
    return running


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    with serving(GcsServer(buckets={"weights": {}})) as server:
        assert isinstance(server, GcsServer)
        for key, content in FILES.items():
            server.store("weights", f"models/{key}", content, "application/octet-stream")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url(""))
        gcs.client.cache_clear()
        yield server
        gcs.client.cache_clear()


@pytest.mark.parametrize("left", [b"", A[:HALF], b"!" * HALF])
def test_s3_is_a_mirror_and_is_gone_on_with(bake: Bake, bucket: S3Server, into: Path, left: bytes) -> None:
    into.mkdir()
    (into / "a.pth.part").write_bytes(left)
    ran = bake("alpha", "--into", into, "--from", "s3://weights/models")
    assert (ran.code, there(into)) == (0, of("a.pth", SHARED))
    ranges = [seen.headers.get("range") for seen in bucket.asked("GET /weights/models/a.pth")]
    assert ranges == {b"": [None], A[:HALF]: [f"bytes={HALF}-"]}.get(left, [f"bytes={HALF}-", None])


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_is_asked_for_sizes_that_the_catalog_does_not_know(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, bucket: S3Server, google: GcsServer, into: Path, scheme: str
) -> None:
    described = catalog(tmp_path / "catalog.toml", HERE, a={"bytes": None}, both={"bytes": None})
    ran = runner(capsys, described, tmp_path / "lock.json")(
        "alpha", "--into", into, "--from", f"{scheme}://weights/models"
    )
    assert (ran.code, "2 files to come, 600 kB; " in ran.err) == (0, True)


def test_an_object_that_is_not_in_the_bucket_is_told(bake: Bake, bucket: S3Server, into: Path) -> None:
    ran = bake("extra", "--into", into, "--from", "s3://weights/elsewhere/")
    assert ran.errors == [
        "extra.safetensors: there is no s3://weights/elsewhere/extra.safetensors; it was moved, or is missing there"
    ]


@pytest.mark.parametrize("left", [b"", A[:HALF], b"!" * HALF])
def test_google_cloud_storage_is_a_mirror_and_is_gone_on_with(
    bake: Bake, google: GcsServer, into: Path, left: bytes
) -> None:
    into.mkdir()
    (into / "a.pth.part").write_bytes(left)
    ran = bake("alpha", "--into", into, "--from", "gs://weights/models")
    assert (ran.code, there(into)) == (0, of("a.pth", SHARED))
