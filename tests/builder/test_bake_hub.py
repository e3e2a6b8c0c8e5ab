"""Baking from Hugging Face: its commits, its token, what it knows of files, and what is recorded of them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.bake.errors import BakeError
from builder.bake.hub import Hub, token_of
from engine.catalog import File, Source
from engine.storage.patience import Patience
from tests.builder.baking import Bake, of, runner, there
from tests.builder.mirror import COMMIT, FILES, REPO, HubServer, asked, catalog, sha256
from tests.storage.servers import answer, serving

FIXED = f'repo = "{REPO}"\nrevision = "{COMMIT}"'
BRANCH = f'repo = "{REPO}"\nrevision = "main"'
LATER = "beef" + "0" * 36
EXTRA = FILES["extra.safetensors"]
ENTRY = {"bytes": len(EXTRA), "sha256": sha256(EXTRA), "revision": COMMIT}
OPEN = {"extra": {"bytes": None, "sha256": "record"}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with serving(HubServer()) as server:
        assert isinstance(server, HubServer)
        place = "{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url(""))
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", server.url(f"/{place}"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def fixed(capsys: pytest.CaptureFixture[str], tmp_path: Path, lock: Path) -> Bake:
    """A catalog that knows commit, sizes and sums."""
    return runner(capsys, catalog(tmp_path / "catalog.toml", FIXED), lock)


@pytest.fixture
def branch(capsys: pytest.CaptureFixture[str], tmp_path: Path, lock: Path) -> Bake:
    """A catalog that knows a branch, and of one file neither size nor sum."""
    return runner(capsys, catalog(tmp_path / "catalog.toml", BRANCH, **OPEN), lock)


def test_what_the_catalog_knows_is_asked_of_nobody(fixed: Bake, hub: HubServer, into: Path, lock: Path) -> None:
    assert (fixed("alpha", "--into", into).code, there(into)) == (0, of("a.pth", "deep/both.pth"))
    assert sorted(f"{seen.method} {seen.path}" for seen in hub.seen) == [
        "GET /cdn/a.pth",
        "GET /cdn/both.pth",
        f"GET /{REPO}/resolve/{COMMIT}/a.pth",
        f"GET /{REPO}/resolve/{COMMIT}/both.pth",
    ]
    assert json.loads((into / "manifests" / "alpha.json").read_text())["files"]["a.pth"]["revision"] == COMMIT
    assert not lock.exists()


def test_the_token_opens_the_hub_and_goes_nowhere_else(
    fixed: Bake, hub: HubServer, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
    ran = fixed("alpha", "--into", into)
    assert (ran.code, there(into)) == (0, of("a.pth", "deep/both.pth"))
    assert [seen.headers.get("authorization") for seen in asked(hub, "/cdn/")] == [None, None]
    assert "hf_secret" not in ran.out + ran.err + "".join(p.read_text() for p in into.rglob("*.json"))


def test_a_netrc_does_not_take_the_place_of_the_token(
    fixed: Bake, hub: HubServer, into: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.token = "hf_secret"
    ran = fixed("alpha", "--into", into)
    assert (ran.code, there(into)) == (0, of("a.pth", "deep/both.pth"))
    assert [seen.headers.get("authorization") for seen in asked(hub, "/cdn/")] == [None, None]


@pytest.mark.parametrize("given", [None, "hf_wrong"])
@pytest.mark.parametrize("bake", ["fixed", "branch"])
def test_a_missing_or_wrong_token_says_what_to_do(
    bake: str,
    given: str | None,
    hub: HubServer,
    into: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    hub.token = "hf_right"
    if given:
        monkeypatch.setenv("HF_TOKEN", given)
    run: Bake = request.getfixturevalue(bake)
    ran = run("extra", "--into", into)
    reason = "the token in HF_TOKEN does not open it" if given else "no HF_TOKEN is set"
    place = f"{REPO}@{COMMIT if bake == 'fixed' else 'main'}/extra.safetensors"
    assert ran.errors == [
        f"extra.safetensors: {place} is refused; {reason}: give HF_TOKEN a token that may read it, and accept the "
        f"licence on {hub.url('')}/{REPO} (a repository that is gone is refused in the same way)"
    ]
    assert "hf_" not in ran.err


@pytest.mark.parametrize("bake", ["fixed", "branch"])
def test_a_file_that_was_moved_is_told_with_its_revision(
    bake: str, hub: HubServer, into: Path, request: pytest.FixtureRequest
) -> None:
    del hub.files["extra.safetensors"]
    run: Bake = request.getfixturevalue(bake)
    assert (
        run("extra", "--into", into)
        .errors[0]
        .startswith(
            f"extra.safetensors: there is no {REPO}@{COMMIT}/extra.safetensors; it was moved or renamed; "
            f"see {hub.url('')}/{REPO}"
        )
    )


def test_a_password_of_another_endpoint_is_not_shown(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://me:hunter2@mirror")
    file = File("a.pth", None, "a.pth", "network", Source("MIT", repo=REPO))
    assert Hub(None, Patience()).page(file) == f"https://mirror/{REPO}"


def test_a_hub_that_fails_once_is_asked_again(branch: Bake, hub: HubServer, into: Path) -> None:
    hub.faults += [("GET /api/", answer(503)), ("HEAD /", answer(429)), (f"GET /{REPO}", answer(500))]
    assert branch("extra", "--into", into).code == 0


def test_what_a_branch_held_is_recorded(branch: Bake, hub: HubServer, into: Path, lock: Path) -> None:
    ran = branch("extra", "--into", into)
    assert (ran.code, json.loads(lock.read_text())) == (0, {"extra.safetensors": ENTRY})
    listed = json.loads((into / "manifests" / "extra.json").read_text())["files"]["extra.safetensors"]
    assert listed == {"licence": "MIT", **ENTRY}


def test_a_branch_that_moved_is_read_at_the_recorded_commit(
    branch: Bake, hub: HubServer, into: Path, tmp_path: Path
) -> None:
    branch("extra", "--into", into)
    hub.seen.clear()
    assert branch("extra", "--into", tmp_path / "elsewhere").code == 0
    assert [seen.path for seen in hub.seen] == [f"/{REPO}/resolve/{COMMIT}/extra.safetensors", "/cdn/extra.safetensors"]


def test_all_files_of_a_branch_are_of_one_commit(branch: Bake, hub: HubServer, into: Path) -> None:
    branch("alpha", "beta", "extra", "--into", into)
    assert len(asked(hub, "/api/models/")) == 1


def test_what_was_recorded_holds_ever_after(branch: Bake, hub: HubServer, into: Path, tmp_path: Path) -> None:
    branch("extra", "--into", into)
    hub.files["extra.safetensors"] = EXTRA[::-1]
    ran = branch("extra", "--into", tmp_path / "elsewhere")
    assert ran.errors == [
        f"extra.safetensors: {REPO}@{COMMIT}/extra.safetensors has sha256 {sha256(EXTRA[::-1])}, "
        f"{sha256(EXTRA)} expected; it is published at "
        f"https://huggingface.co/{REPO}/resolve/{COMMIT}/extra.safetensors"
    ]


def test_the_first_download_is_held_to_what_the_hub_says_of_it(branch: Bake, hub: HubServer, into: Path) -> None:
    hub.faults.append(("GET /cdn/", answer(200, EXTRA[::-1])))
    ran = branch("extra", "--into", into)
    assert (ran.code, "expected" in ran.errors[0]) == (1, True)


def test_a_branch_that_holds_another_file_now_is_told_before_it_is_fetched(
    branch: Bake, hub: HubServer, into: Path
) -> None:
    hub.files["a.pth"] = bytes(5)
    ran = branch("alpha", "--into", into)
    assert ran.errors[0].startswith(f"a.pth: {REPO}@{COMMIT}/a.pth is another file now: sha256 ")
    assert asked(hub, "GET /cdn/a.pth") == []


def test_where_the_lock_cannot_be_written_the_manifest_records(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, hub: HubServer, into: Path, lock: Path
) -> None:
    described = catalog(tmp_path / "catalog.toml", BRANCH, **OPEN)
    ran = runner(capsys, described, tmp_path / "none" / "lock.json")("extra", "--into", into)
    assert (ran.code, "take it back by --adopt" in ran.err) == (0, True)
    hub.commit, hub.files["extra.safetensors"] = LATER, bytes(9)
    again = runner(capsys, described, tmp_path / "none" / "lock.json")("extra", "--into", into)
    assert (again.code, there(into)) == (0, of("extra.safetensors"))
    adopting = runner(capsys, described, lock)("--adopt", into / "manifests" / "extra.json")
    assert (adopting.out, json.loads(lock.read_text())) == (
        f"1 file recorded in {lock}\n",
        {"extra.safetensors": ENTRY},
    )


def test_a_manifest_that_contradicts_the_lock_is_not_adopted(branch: Bake, hub: HubServer, into: Path) -> None:
    branch("extra", "--into", into)
    manifest = into / "manifests" / "extra.json"
    manifest.write_text(manifest.read_text().replace(sha256(EXTRA), "0" * 64))
    ran = branch("--adopt", manifest)
    assert (ran.code, f"{'0' * 64}, {sha256(EXTRA)} expected" in ran.errors[0]) == (1, True)


def test_a_lock_that_contradicts_the_catalog_stops_everything(
    fixed: Bake, hub: HubServer, into: Path, lock: Path
) -> None:
    lock.write_text(json.dumps({"a.pth": {"bytes": len(EXTRA), "sha256": "0" * 64}}))
    ran = fixed("alpha", "--into", into)
    assert (ran.code, ran.errors[0].startswith(f"the lock file {lock} and the catalog do not agree: sha256")) == (
        1,
        True,
    )


def test_the_token_may_be_a_secret_of_the_build(tmp_path: Path) -> None:
    secret = tmp_path / "HF_TOKEN"
    secret.write_text("hf_file\n")
    assert token_of({}, secret) == "hf_file"
    assert token_of({"HF_TOKEN": "hf_env"}, secret) == "hf_env"
    assert token_of({"HF_TOKEN": ""}, tmp_path / "none") is None


@pytest.mark.parametrize("token", ["hf_中文", "hf_a\nb", "hf_a b", "\udcff"])
def test_what_can_be_no_token_is_told_and_not_shown(
    fixed: Bake, into: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    ran = fixed("extra", "--into", into)
    assert ran.errors == [
        "HF_TOKEN is no token: it has spaces, line breaks or letters beyond ASCII in it; copy it again"
    ]


def test_a_secret_that_is_no_text_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "HF_TOKEN").write_bytes(b"\x80\xff")
    with pytest.raises(BakeError, match="HF_TOKEN is no token"):
        token_of({}, tmp_path / "HF_TOKEN")


def test_another_endpoint_is_an_environment_variable(hub: HubServer, into: Path, tmp_path: Path, lock: Path) -> None:
    described = catalog(tmp_path / "catalog.toml", BRANCH, **OPEN)
    command = [sys.executable, "-m", "builder.bake", "extra", "--into", into, "--lock", lock]
    environment = {**os.environ, "HF_ENDPOINT": hub.url(""), "CATALOG": str(described)}
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 0
    assert there(into) == of("extra.safetensors")
