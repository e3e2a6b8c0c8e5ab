"""What goes wrong while baking: each time one clear sentence, and what is good stays."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builder.bake.weighing import Weighed, WrongBytes
from engine.storage.hooks import unchecked, unseen
from tests.builder.baking import Bake, halting, of, runner, there
from tests.builder.mirror import FILES, HERE, SIZE, asked, catalog, sha256
from tests.storage.servers import Handler, Responder, Seen, Server, answer, file

A, SHARED = FILES["a.pth"], "deep/both.pth"
FLIPPED = bytes([A[0] ^ 1]) + A[1:]
HALF = SIZE // 2


def test_one_flipped_byte_is_found(bake: Bake, web: Server, into: Path) -> None:
    address = web.script("/a.pth", file(FLIPPED))
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert ran.errors == [f"a.pth: {address} has sha256 {sha256(FLIPPED)}, {sha256(A)} expected"]
    assert (ran.code, there(into)) == (1, of(SHARED))


def test_one_failure_does_not_stop_the_others(bake: Bake, web: Server, into: Path) -> None:
    web.script("/a.pth", answer(404))
    web.script("/extra.safetensors", answer(403))
    ran = bake("alpha", "beta", "extra", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into)) == (1, of("b.pth", SHARED))
    assert sorted(ran.errors) == [
        f"a.pth: there is no {web.url('/a.pth')}; it was moved, or is missing there",
        f"extra.safetensors: {web.url('/extra.safetensors')} is refused; the credentials given for it do not open it",
    ]
    assert [path.name for path in (into / "manifests").iterdir()] == ["beta.json"]
    assert "beta: 2 files, 600 kB, verified" in ran.out


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (A[:HALF], "has 150,000 bytes, 300,000 expected"),
        (A + b"more", "has 300,004 bytes, 300,000 expected"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is a web page (a login, an error, or a page about the file)"),
        (b"<html>" + bytes(SIZE - 6), "is a web page (a login, an error, or a page about the file)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"", "has 0 bytes, 300,000 expected"),
    ],
)
def test_what_is_not_the_file_is_told_apart(bake: Bake, web: Server, into: Path, body: bytes, problem: str) -> None:
    address = web.script("/a.pth", file(body))
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert [error.startswith(f"a.pth: {address} {problem}") for error in ran.errors] == [True]
    assert there(into) == of(SHARED)


def test_a_line_that_drops_in_the_middle_is_gone_on_with(bake: Bake, web: Server, into: Path) -> None:
    web.faults.append(("GET /a.pth", file(A, stop_at=HALF, ETag='"v1"')))
    web.script("/a.pth", file(A, ETag='"v1"'))
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into)) == (0, of("a.pth", SHARED))
    assert [seen.headers.get("range") for seen in asked(web, "/a.pth")] == [None, f"bytes={HALF}-"]


def test_what_an_earlier_run_left_is_gone_on_with(bake: Bake, web: Server, into: Path) -> None:
    into.mkdir()
    (into / "a.pth.part").write_bytes(A[:HALF])
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into)) == (0, of("a.pth", SHARED))
    assert [seen.headers.get("range") for seen in asked(web, "/a.pth")] == [f"bytes={HALF}-"]
    assert "a.pth: going on behind 150 kB of an earlier run" in ran.err


def test_a_whole_part_is_only_weighed(bake: Bake, web: Server, into: Path) -> None:
    into.mkdir()
    (into / "a.pth.part").write_bytes(A)
    assert bake("alpha", "--into", into, "--from", web.url("")).code == 0
    assert (asked(web, "/a.pth"), there(into)) == ([], of("a.pth", SHARED))


@pytest.mark.parametrize("left", [FLIPPED[:HALF], FLIPPED, A + b"more"])
def test_a_wrong_part_is_thrown_away_and_fetched_anew(bake: Bake, web: Server, into: Path, left: bytes) -> None:
    into.mkdir()
    (into / "a.pth.part").write_bytes(left)
    assert bake("alpha", "--into", into, "--from", web.url("")).code == 0
    assert asked(web, "/a.pth")[-1].headers.get("range") is None
    assert there(into) == of("a.pth", SHARED)


def test_a_part_that_another_process_wrote_into_gets_no_name(tmp_path: Path) -> None:
    """As where a file system has no locks."""
    with (
        pytest.raises(WrongBytes, match="sent 300,000 bytes and 300,001 are there: another bake writes the same file"),
        Weighed(tmp_path / "a.pth", SIZE, unchecked, unseen) as part,
        (tmp_path / "a.pth.part").open("ab") as other,
    ):
        part.write(A)
        other.write(b"!")
        other.flush()
        part.finish()
    assert there(tmp_path) == {"a.pth.part": b""}


def test_a_mirror_that_is_wrong_twice_is_given_up(bake: Bake, web: Server, into: Path) -> None:
    web.script("/a.pth", file(FLIPPED))
    into.mkdir()
    (into / "a.pth.part").write_bytes(A[:HALF][:-1] + b"!")
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert ("expected" in ran.errors[0], len(asked(web, "/a.pth"))) == (True, 2)


def test_a_server_without_range_begins_anew(bake: Bake, web: Server, into: Path) -> None:
    web.script("/a.pth", file(A, ranges=False))
    into.mkdir()
    (into / "a.pth.part").write_bytes(A[:HALF])
    assert (bake("alpha", "--into", into, "--from", web.url("")).code, there(into)) == (0, of("a.pth", SHARED))


def test_a_mirror_folder_says_what_it_lacks(bake: Bake, tmp_path: Path, into: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "a.pth").write_bytes(A[:HALF])
    ran = bake("alpha", "--into", into, "--from", mirror)
    assert sorted(ran.errors) == [
        f"a.pth: {mirror}/a.pth has 150,000 bytes, 300,000 expected; copy it again",
        f"{SHARED}: {mirror} has neither {SHARED} nor a Hugging Face cache or folder of its repository with it",
    ]


@pytest.mark.parametrize("told", [10**18, None])
def test_a_disk_that_is_too_small_is_told_before_anything_comes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path, told: int | None
) -> None:
    described = catalog(tmp_path / "catalog.toml", HERE, a={"bytes": told})
    web.faults.append(("HEAD /a.pth", answer(200, Content_Length=str(10**18))))
    ran = runner(capsys, described, tmp_path / "lock.json")("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, asked(web, "GET")) == (1, [])
    assert "error 1 of 1: needs 1,000,000 TB, has " in ran.err
    assert f" at {into}; make room, or bake fewer models" in ran.err


@pytest.fixture
def small_disk(into: Path) -> Iterator[Path]:
    """A file system of 400 kB, which holds one file and not two."""
    into.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", into], capture_output=True).returncode:
        pytest.skip("mounting is for root alone")
    yield into
    subprocess.run(["umount", into], check=True)


def test_a_full_disk_is_told_and_gone_on_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, small_disk: Path
) -> None:
    """Sizes that nobody told cannot be planned with."""
    described = catalog(tmp_path / "catalog.toml", HERE, a={"bytes": None}, both={"bytes": None})
    bake = runner(capsys, described, tmp_path / "lock.json")
    for address in ("/a.pth", f"/{SHARED}"):
        web.script(address, chunked(FILES[address[1:]]))
    ran = bake("alpha", "--into", small_disk, "--from", web.url(""), "--jobs", "1")
    room = f"no space is left at {small_disk}; what has come stays there, make room and run again to go on"
    assert (ran.code, ran.errors) == (1, [f"{SHARED}: {room}"])
    assert "2 files to come, 0 bytes, and 2 of unknown size; " in ran.err
    subprocess.run(["mount", "-o", "remount,size=900k", small_disk], check=True)
    web.seen.clear()
    assert (bake("alpha", "--into", small_disk, "--from", web.url("")).code, len(asked(web, "GET"))) == (0, 1)


def test_a_disk_that_runs_full_under_a_write_is_told(bake: Bake, web: Server, into: Path) -> None:
    into.mkdir()
    (into / "a.pth.part").symlink_to("/dev/full")  # a real device that fails every write with ENOSPC
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert [error.startswith(f"a.pth: no space is left at {into};") for error in ran.errors] == [True]


def test_a_read_only_disk_is_told(bake: Bake, web: Server, into: Path) -> None:
    into.mkdir()
    with read_only(into):
        ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, web.seen) == (1, [])
    assert all(f"{into} cannot be written to (" in error for error in ran.errors)


def test_a_file_in_the_place_of_the_folder_is_told(bake: Bake, web: Server, into: Path) -> None:
    into.write_text("not a folder")
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, ran.err.count("error 1 of 1: the disk failed at")) == (1, 1)


def test_a_mirror_that_is_not_there_is_told(bake: Bake, tmp_path: Path, into: Path) -> None:
    ran = bake("alpha", "--into", into, "--from", tmp_path / "none")
    assert ran.errors == [f"the mirror {tmp_path}/none: there is no such folder; an address begins with " + SCHEMES]


@pytest.mark.parametrize(
    ("address", "lack"),
    [
        ("s3://", "bucket"),
        ("gs:///models", "bucket"),
        ("http://", "host"),
        ("http://[", "host"),
        ("https:///a", "host"),
    ],
)
def test_a_mirror_without_a_host_is_told(bake: Bake, into: Path, address: str, lack: str) -> None:
    ran = bake("alpha", "--into", into, "--from", address)
    assert (ran.errors, into.exists()) == ([f"the mirror {address} names no {lack}"], False)


def test_a_wrong_setting_is_told_before_a_bucket_is_asked(
    bake: Bake, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_PIXELS", "many")
    ran = bake("alpha", "--into", into, "--from", "s3://weights/models")
    assert [error.startswith("a setting is wrong: MAX_PIXELS: ") for error in ran.errors] == [True]
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("content", ["[]", '{"a.pth": 5}', '{"a.pth": {"bytes": "5", "sha256": "0"}}', "{"])
def test_a_lock_that_is_none_is_told(bake: Bake, into: Path, lock: Path, content: str) -> None:
    lock.write_text(content)
    ran = bake("alpha", "--into", into)
    assert [error.startswith(f"the lock file {lock} cannot be read: ") for error in ran.errors] == [True]


def test_adopting_into_a_lock_that_cannot_be_written_is_told(
    bake: Bake, capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path
) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    nowhere = tmp_path / "none" / "lock.json"
    described = catalog(tmp_path / "open.toml", HERE, a={"sha256": "record"})
    ran = runner(capsys, described, nowhere)("--adopt", into / "manifests" / "alpha.json")
    assert ran.errors == [f"the lock file {nowhere} cannot be written; name another one by --lock"]


def test_a_plan_tells_what_a_bake_would_fail_of(bake: Bake, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = bake("--plan", "alpha", "--into", tmp_path / "file" / "below")
    assert ran.errors == [f"the disk failed at {tmp_path}/file: Not a directory"]
    ran = bake("--plan", "alpha", "--into", "/proc/models")
    assert (ran.code, "2 files to download" in ran.out or "cannot be written to" in ran.errors[0]) == (1, True)


SCHEMES = "http://, https://, s3://, gs://"


def test_a_file_without_an_address_needs_a_mirror(bake: Bake, into: Path) -> None:
    ran = bake("extra", "--into", into)
    assert ran.errors == [
        "extra.safetensors: has no published address in the catalog; name a place that has it by --from"
    ]


def test_an_unknown_model_names_the_nearest(bake: Bake, into: Path) -> None:
    ran = bake("alpa", "--into", into)
    assert (ran.code, into.exists()) == (1, False)
    assert "no model is called `alpa`; the nearest are `alpha`" in ran.errors[0]


@pytest.mark.parametrize("nothing", ["", " , "])
def test_a_name_of_nothing_is_told(bake: Bake, into: Path, nothing: str) -> None:
    ran = bake(nothing, "--into", into)
    assert (ran.code, ran.errors) == (1, ["name at least one MODEL; --list shows them all"])


def test_another_file_at_the_same_place_is_refused(
    bake: Bake, capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path
) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    described = catalog(tmp_path / "other.toml", HERE, both={"sha256": "0" * 64})
    ran = runner(capsys, described, tmp_path / "lock.json")("beta", "--into", into, "--from", web.url(""))
    assert ran.errors == [
        f"`alpha`, baked here before, has another file at {SHARED}: sha256 {sha256(FILES[SHARED])}, and `beta` needs "
        f"{'0' * 64}; bake `alpha` with it"
    ]


def test_a_catalog_that_changed_replaces_what_all_its_models_share(
    capsys: pytest.CaptureFixture[str], bake: Bake, tmp_path: Path, web: Server, into: Path
) -> None:
    bake("alpha", "beta", "--into", into, "--from", web.url(""))
    later = FILES[SHARED][::-1]
    web.script(f"/{SHARED}", file(later))
    described = catalog(tmp_path / "later.toml", HERE, both={"sha256": sha256(later)})
    ran = runner(capsys, described, tmp_path / "lock.json")("alpha", "beta", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into)) == (0, of("a.pth", "b.pth") | {SHARED: later})


def test_a_password_in_an_address_is_not_shown(bake: Bake, web: Server, into: Path) -> None:
    web.script("/extra.safetensors", answer(404))
    ran = bake("extra", "--into", into, "--from", web.url("").replace("http://", "http://me:hunter2@"))
    assert ("hunter2" in ran.err, web.url("/extra.safetensors") in ran.err) == (False, True)


@pytest.mark.parametrize("scheme", ["ftp", "s3", "http"])
def test_a_password_in_an_address_that_is_no_mirror_is_not_shown(bake: Bake, into: Path, scheme: str) -> None:
    ran = bake("extra", "--into", into, "--from", f"{scheme}://me:hunter2@/x?key=hunter2")
    assert ran.err.startswith(f"error 1 of 1: the mirror {scheme}:///x") and "hunter2" not in ran.err


def test_a_password_in_the_catalog_is_not_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path
) -> None:
    web.script("/a.pth", file(FLIPPED))
    described = catalog(tmp_path / "catalog.toml", 'url = "https://me:hunter2@example.com"')
    ran = runner(capsys, described, tmp_path / "lock.json")("alpha", "--into", into, "--from", web.url(""))
    assert [error.partition("; ")[2] for error in ran.errors] == ["it is published at https://example.com/a.pth"]


def test_a_model_without_files_is_a_mistake_of_its_catalog(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, into: Path
) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(
        '[[model]]\nname = "none"\nfamily = "esrgan"\ntasks = []\ndescription = ""\nparameters = 0\n'
        'precision = "F32"\nfiles = []\n'
    )
    ran = runner(capsys, path, tmp_path / "lock.json")("none", "--into", into)
    assert (ran.code, "catalog.toml cannot be read: `none` has no files" in ran.err) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("alpha",),
        ("--into", "x"),
        ("alpha", "--into", "x", "--jobs", "0"),
        ("--list", "--plan"),
        ("--list", "alpha"),
        ("--plan", "alpha", "--jobs", "2"),
        ("--plan", "alpha", "--convert"),
        ("--verify", "--into", "x", "--from", "y"),
        ("--verify", "--into", "x", "--convert"),
        ("--adopt", "manifest.json", "--into", "x"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(bake: Bake, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as left:
        bake(*arguments)
    assert left.value.code == 2


def test_ctrl_c_leaves_what_has_come(bake: Bake, web: Server, into: Path) -> None:
    """Pressed by the server in the middle of a file."""
    web.faults.append(("GET /a.pth", halting(A, HALF, into / "a.pth.part", press_ctrl_c)))
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, ran.err.splitlines()[-1]) == (130, "stopped; the same command goes on with what has come")
    left = there(into)["a.pth.part"]
    assert left and A.startswith(left)
    assert (bake("alpha", "--into", into, "--from", web.url("")).code, there(into)) == (0, of("a.pth", SHARED))
    assert asked(web, "/a.pth")[-1].headers["range"] == f"bytes={len(left)}-"


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A disk that root cannot write to either, or for others a folder that they may not."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True).returncode == 0
    if not mounted:
        if os.geteuid() == 0:
            pytest.skip("this root may not mount, and writes everywhere")
        folder.chmod(0o555)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)
        else:
            folder.chmod(0o755)


def press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def chunked(content: bytes) -> Responder:
    """A file whose size is not told; a Range is honoured."""

    def respond(handler: Handler, seen: Seen) -> None:
        start = int(seen.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/*")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for at in range(start, len(content), 65536):
            piece = content[at : at + 65536]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    return respond
