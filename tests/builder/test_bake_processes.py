"""Bakes in processes of their own: killed in the middle, two at once."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.builder.baking import Bake, halting, of, there
from tests.builder.mirror import FILES, HERE, SIZE, asked, catalog, sha256
from tests.storage.servers import Handler, Seen, Server, file

A, SHARED = FILES["a.pth"], "deep/both.pth"


def started(*arguments: str | Path, described: Path, lock: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "builder.bake",
        *map(str, arguments),
        "--catalog",
        str(described),
        "--lock",
        str(lock),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_bake_is_gone_on_with(bake: Bake, web: Server, into: Path, tmp_path: Path, lock: Path) -> None:
    killed = threading.Event()
    web.faults.append(
        ("GET /a.pth", halting(A, SIZE // 2, into / "a.pth.part", lambda: (process.kill(), killed.set())))
    )
    process = started("alpha", "--into", into, "--from", web.url(""), described=tmp_path / "catalog.toml", lock=lock)
    assert killed.wait(60)
    process.communicate()
    left = (into / "a.pth.part").read_bytes()
    assert left and A.startswith(left)
    assert (bake("alpha", "--into", into, "--from", web.url("")).code, there(into)) == (0, of("a.pth", SHARED))
    assert asked(web, "/a.pth")[-1].headers["range"] == f"bytes={len(left)}-"


def test_ctrl_c_waits_for_no_silent_server(web: Server, into: Path, tmp_path: Path, lock: Path, bake: Bake) -> None:
    asked_first, ended = threading.Event(), threading.Event()

    def silent(handler: Handler, seen: Seen) -> None:
        asked_first.set()
        assert ended.wait(60)
        handler.hang_up()

    web.faults.append(("GET /a.pth", silent))
    command = ("alpha", "--into", into, "--from", web.url(""))
    with started(*command, described=tmp_path / "catalog.toml", lock=lock) as process:
        assert asked_first.wait(60)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1].splitlines()
    ended.set()
    assert (process.returncode, said[-1], "stopping what is under way" in said) == (130, STOPPED, True)
    assert (bake(*command).code, there(into)) == (0, of("a.pth", SHARED))


def test_two_bakes_at_once_fetch_each_file_once(
    web: Server, into: Path, tmp_path: Path, lock: Path, bake: Bake
) -> None:
    """The server lets the first go on only when the second has said that it waits; nobody knows the digest before."""
    catalog(tmp_path / "catalog.toml", HERE, a={"bytes": None, "sha256": "record"})
    asked_first, waits = threading.Event(), threading.Event()

    def slow(handler: Handler, seen: Seen) -> None:
        asked_first.set()
        assert waits.wait(60)
        file(A)(handler, seen)

    web.faults.append(("GET /a.pth", slow))
    command = ("alpha", "--into", into, "--from", web.url(""))
    said = []
    with started(*command, described=tmp_path / "catalog.toml", lock=lock) as first:
        assert asked_first.wait(60)
        with started(*command, described=tmp_path / "catalog.toml", lock=lock) as second:
            assert second.stderr and second.stdout
            for line in second.stderr:
                said.append(line)
                if line == "a.pth: waiting for another bake that is bringing it\n":
                    waits.set()
            assert (first.communicate()[0], second.stdout.read()) == (DONE.format(into),) * 2
    assert (first.returncode, second.returncode) == (0, 0)
    assert "a.pth: already there, verified\n" in said
    assert [len(asked(web, f"GET /{key}")) for key in ("a.pth", SHARED)] == [1, 1]
    assert there(into) == of("a.pth", SHARED)
    assert json.loads(lock.read_text()) == {"a.pth": {"bytes": SIZE, "sha256": sha256(A)}}
    assert bake("--verify", "--into", into).code == 0


def test_two_models_at_once_in_one_folder(web: Server, into: Path, tmp_path: Path, lock: Path, bake: Bake) -> None:
    both = [
        started(name, "--into", into, "--from", web.url(""), described=tmp_path / "catalog.toml", lock=lock)
        for name in ("alpha", "beta")
    ]
    assert [(process.communicate()[1], process.returncode)[1] for process in both] == [0, 0]
    assert len(asked(web, f"GET /{SHARED}")) == 1
    assert bake("--verify", "alpha", "beta", "--into", into).code == 0
    assert there(into) == of("a.pth", "b.pth", SHARED)


STOPPED = "stopped; the same command goes on with what has come"
DONE = "alpha: 2 files, 600 kB, verified in {}\n"
