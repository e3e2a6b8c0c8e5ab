"""What the command tells without downloading anything, and what it finds when it reads everything again."""

import io
import os
import termios
import time
from pathlib import Path

import pytest

from builder.bake.progress import Lines, described, display, duration
from engine.amounts import size
from tests.builder.baking import Bake, runner
from tests.builder.mirror import COMMIT, FILES, REPO, catalog, sha256
from tests.storage.servers import Server

SHARED = "deep/both.pth"


def rows(text: str) -> dict[str, list[str]]:
    """The lines of a table by their first cell."""
    return {line.split()[0]: line.split() for line in text.splitlines()}


def test_the_list_names_everything_and_what_it_takes(bake: Bake) -> None:
    listed = rows(bake("--list").out)
    assert {"bundled", "RealESRGAN_x4plus", "alpha", "beta", "extra", "lightx2v-t2v-4step"} <= listed.keys()
    assert listed["alpha"] == ["alpha", "600", "kB", "-", "MIT", "Made", "up"]


def test_the_list_says_what_is_baked_in_a_folder(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    out = bake("--list", "--into", into).out
    assert [rows(out)[name][5] for name in ("alpha", "extra")] == ["yes", "no"]
    assert "1 of 2 files" in next(line for line in out.splitlines() if line.startswith("beta "))
    assert "comes with the code" in next(line for line in out.splitlines() if line.startswith("bundled "))


def test_the_plan_shows_files_sums_and_sources(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, into: Path, lock: Path
) -> None:
    source = f'repo = "{REPO}"\nrevision = "{COMMIT}"'
    described = catalog(tmp_path / "catalog.toml", source, both={"bytes": None, "sha256": "record"})
    ran = runner(capsys, described, lock)("--plan", "alpha", "--into", into)
    a, shared = (next(line for line in ran.out.splitlines() if line.startswith(key)) for key in ("a.pth", SHARED))
    assert a.split() == ["a.pth", "300", "kB", sha256(FILES["a.pth"]), "MIT", f"{REPO}@{COMMIT}/a.pth"]
    assert "recorded on the first download" in shared
    assert "2 files to download: 300 kB, and 1 of unknown size\ndisk: 300 kB needed, " in ran.out
    assert not into.exists()


def test_the_plan_knows_what_is_there(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    web.seen.clear()
    ran = bake("--plan", "alpha", "beta", "--into", into, "--from", web.url(""))
    assert (ran.out.count("already there"), "1 file to download: 300 kB" in ran.out, web.seen) == (2, True, [])


def test_verify_finds_a_flipped_byte_a_short_and_a_missing_file(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "beta", "extra", "--into", into, "--from", web.url(""))
    assert bake("--verify", "--into", into).code == 0
    content = FILES["a.pth"]
    (into / "a.pth").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (into / "b.pth").write_bytes(b"short")
    (into / "extra.safetensors").unlink()
    ran = bake("--verify", "--into", into)
    assert ran.code == 1
    assert sorted(error.split(" has ")[0] for error in ran.errors) == [
        f"a.pth: {into}/a.pth",
        f"b.pth: {into}/b.pth",
        f"extra.safetensors: is not at {into}/extra.safetensors; bake it again",
    ]
    assert bake("--verify", "extra", "--into", into).errors == [
        f"extra.safetensors: is not at {into}/extra.safetensors; bake it again"
    ]


def test_verify_misses_a_model_that_was_never_baked(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    assert bake("--verify", "extra", "--into", into).errors == [
        f"extra: is not baked in {into}: there is no manifests/extra.json"
    ]


def test_verify_holds_manifests_against_the_catalog(
    bake: Bake, capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path, lock: Path
) -> None:
    bake("extra", "--into", into, "--from", web.url(""))
    described = catalog(tmp_path / "other.toml", "", extra={"sha256": "0" * 64})
    ran = runner(capsys, described, lock)("--verify", "--into", into)
    assert ran.errors[0].startswith("extra.safetensors: the manifest says sha256")


def test_a_folder_without_manifests_cannot_be_verified(bake: Bake, tmp_path: Path) -> None:
    assert bake("--verify", "--into", tmp_path).errors == [f"nothing is baked in {tmp_path}: it has no manifests"]


def test_verify_tells_a_broken_manifest_and_reads_what_the_others_list(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "extra", "--into", into, "--from", web.url(""))
    (into / "manifests" / "alpha.json").write_text("{}")
    ran = bake("--verify", "--into", into)
    told = f"{into}/manifests/alpha.json is not a manifest of baked files: 'model' is missing; bake that model again"
    assert (ran.code, ran.errors) == (1, [told])
    assert "extra.safetensors: 300 kB, sha256 " in ran.err


def test_a_family_is_all_of_its_published_models(bake: Bake) -> None:
    out = bake("--plan", "realesrgan").out
    assert "RealESRGAN_x4plus_anime_6B.pth" in out
    assert "bundled" not in out


def test_a_log_gets_a_line_for_each_file_now_and_then() -> None:
    out, clock = io.StringIO(), iter([0.0, 1.0, 6.0, 7.0, 12.0])
    with Lines(out, every=5, now=lambda: next(clock)).follow("a.pth") as progress:
        for done in (10, 60_000_010, 70_000_000, 120_000_010):
            progress(done, 240_000_010)
    assert out.getvalue().splitlines() == [
        "a.pth: 60 MB of 240 MB, 25 %, 10 MB/s, 0:18 left",
        "a.pth: 120 MB of 240 MB, 50 %, 10 MB/s, 0:12 left",
    ]


def test_a_terminal_gets_bars() -> None:
    screen, keyboard = os.openpty()
    termios.tcsetwinsize(keyboard, (24, 100))
    with os.fdopen(keyboard, "w") as out:
        shown = display(out)
        with shown.follow("a.pth") as progress:
            progress(0, 4000)
            time.sleep(0.11)  # tqdm draws every tenth of a second
            progress(2000, 4000)
        shown.say("done")
        seen = ""
        while "done" not in seen:
            seen += os.read(screen, 10_000).decode()
    os.close(screen)
    assert "a.pth:  50%" in seen


def test_sizes_and_times_read_as_people_say_them() -> None:
    assert [size(n) for n in (None, 12, 1500, 999_700, 3_391_544_696, 10**18)] == [
        "?",
        "12 bytes",
        "1.5 kB",
        "1 MB",
        "3.39 GB",
        "1,000,000 TB",
    ]
    assert [duration(s) for s in (5, 65, 7209)] == ["0:05", "1:05", "2:00:09"]
    assert described(5, None, 0) == "5 bytes"
