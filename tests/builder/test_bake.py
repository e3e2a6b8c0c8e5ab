"""Baking from a mirror over http: what arrives, what is listed, what is not fetched twice."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from builder.bake.bake import TIME, room_needed, unsized
from builder.bake.wanted import files
from engine.catalog import built_in
from tests.builder.baking import Bake, of, runner, there
from tests.builder.mirror import FILES, HERE, asked, catalog, publish, sha256
from tests.storage.servers import Server, file, serving

ALPHA = ("a.pth", "deep/both.pth")


def test_a_model_arrives_whole_and_is_listed(bake: Bake, web: Server, into: Path) -> None:
    ran = bake("alpha", "--into", into, "--from", web.url("/"))
    assert (ran.code, ran.errors, there(into)) == (0, [], of(*ALPHA))
    assert json.loads((into / "manifests" / "alpha.json").read_text()) == {
        "model": "alpha",
        "files": {key: {"bytes": len(FILES[key]), "sha256": sha256(FILES[key]), "licence": "MIT"} for key in ALPHA},
    }


def test_a_second_run_downloads_nothing(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    web.seen.clear()
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, web.seen) == (0, [])
    assert "a.pth: already there, verified" in ran.err


def test_files_without_a_manifest_are_read_instead_of_fetched(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    (into / "manifests" / "alpha.json").unlink()
    web.seen.clear()
    assert bake("alpha", "--into", into, "--from", web.url("")).code == 0
    assert (web.seen, (into / "manifests" / "alpha.json").is_file()) == ([], True)


def test_a_changed_file_that_no_manifest_vouches_for_is_replaced(bake: Bake, web: Server, into: Path) -> None:
    into.mkdir()
    (into / "a.pth").write_bytes(bytes(len(FILES["a.pth"])))
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into)) == (0, of(*ALPHA))
    assert "a.pth: the one that is there has another digest and is replaced" in ran.err


def test_what_two_models_share_is_fetched_once(bake: Bake, web: Server, into: Path) -> None:
    assert bake("alpha", "beta", "--into", into, "--from", web.url("")).code == 0
    assert len(asked(web, "GET /deep/both.pth")) == 1
    assert there(into) == of("a.pth", "b.pth", "deep/both.pth")


def test_a_lora_is_baked_like_a_model(bake: Bake, web: Server, into: Path) -> None:
    assert bake("extra", "--into", into, "--from", web.url("")).code == 0
    assert (there(into), (into / "manifests" / "extra.json").is_file()) == (of("extra.safetensors"), True)


def test_besides_leaves_out_what_another_layer_brings(bake: Bake, web: Server, into: Path) -> None:
    ran = bake("beta", "--besides", "alpha", "extra", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into)) == (0, of("b.pth"))
    assert list(json.loads((into / "manifests" / "beta.json").read_text())["files"]) == ["b.pth"]


def test_two_layers_of_an_image_make_one_folder(bake: Bake, web: Server, into: Path) -> None:
    for arguments in (("alpha",), ("beta", "--besides", "alpha")):
        assert bake(*arguments, "--into", into, "--from", web.url("")).code == 0
    assert bake("alpha", "beta", "--verify", "--into", into, "--besides", "alpha").code == 0
    web.seen.clear()
    assert (bake("beta", "--into", into, "--from", web.url("")).code, web.seen) == (0, [])


def test_names_may_come_with_commas(bake: Bake, web: Server, into: Path) -> None:
    assert bake("alpha,extra", "--into", into, "--from", web.url("")).code == 0
    assert there(into) == of(*ALPHA, "extra.safetensors")


def test_what_comes_with_the_code_needs_no_bake(bake: Bake, into: Path) -> None:
    ran = bake("bundled", "--into", into)
    assert (ran.code, ran.out, there(into)) == (0, "", {})
    assert "bundled: nothing to bake, it comes with the code or lies in another layer" in ran.err


def test_times_are_fixed_so_that_layers_are_the_same(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    assert {path.stat().st_mtime for path in (into, *into.rglob("*"))} == {TIME}


def test_a_repository_s_folder_of_the_mirror_will_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, into: Path
) -> None:
    source = 'repo = "maker/models"\nrevision = "main"'
    bake = runner(capsys, catalog(tmp_path / "catalog.toml", source), tmp_path / "lock.json")
    with serving(publish(Server(), {"models/extra.safetensors": FILES["extra.safetensors"]})) as server:
        ran = bake("extra", "--into", into, "--from", server.url(""))
    assert (ran.code, there(into)) == (0, of("extra.safetensors"))


@pytest.mark.parametrize("place", ["", "models", "models--maker--models/snapshots/abc"])
def test_a_folder_is_a_mirror_in_every_layout_that_a_worker_reads(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, into: Path, place: str
) -> None:
    source = 'repo = "maker/models"\nrevision = "main"'
    bake = runner(capsys, catalog(tmp_path / "catalog.toml", source), tmp_path / "lock.json")
    mirror = tmp_path / "mirror"
    (mirror / place).mkdir(parents=True)
    (mirror / place / "extra.safetensors").write_bytes(FILES["extra.safetensors"])
    assert (bake("extra", "--into", into, "--from", mirror).code, there(into)) == (0, of("extra.safetensors"))


def test_a_mirror_is_asked_for_sizes_that_the_catalog_does_not_know(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path
) -> None:
    described = catalog(tmp_path / "catalog.toml", HERE, a={"bytes": None, "sha256": "record"}, both={"bytes": None})
    bake = runner(capsys, described, tmp_path / "lock.json")
    assert "2 files to come, 600 kB; " in bake("alpha", "--into", into, "--from", web.url("")).err
    assert "2 files to come, 600 kB; " in bake("alpha", "--into", tmp_path / "again", "--from", into).err


def test_a_network_of_unknown_size_is_given_the_room_that_it_probably_takes(tmp_path: Path) -> None:
    known = built_in().find("seedvr2-7b-fp16")
    assert known is not None
    network = replace(known.files[0], bytes=None)
    model = replace(known, files=(network, *known.files[1:]))
    wanted = files([model])
    coming: dict[str, int | None] = {network.key: None}
    assert room_needed(tmp_path, coming, wanted, converting=False) == 2 * model.parameters
    assert (unsized(coming, wanted), unsized(dict.fromkeys(wanted), wanted)) == ("", ", and 3 of unknown size")


def test_plain_https_needs_no_mirror(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path
) -> None:
    bake = runner(capsys, catalog(tmp_path / "catalog.toml", f'url = "{web.url("")}"'), tmp_path / "lock.json")
    web.script("/both.pth", file(FILES["deep/both.pth"]))  # where its source has it
    assert (bake("alpha", "--into", into).code, there(into)) == (0, of(*ALPHA))


def test_a_mirror_may_be_named_by_the_environment(
    bake: Bake, web: Server, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRROR", web.url(""))
    assert (bake("alpha", "--into", into).code, there(into)) == (0, of(*ALPHA))


def test_the_command_works_without_torch(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; import builder.bake.command as m; sys.exit(m.main(['--list']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (ran.returncode, "seedvr2" in ran.stdout) == (0, True)


def test_a_package_that_is_missing_is_told_with_the_remedy() -> None:
    code = "import sys, runpy; sys.modules['requests'] = None; runpy.run_module('builder.bake', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "the package requests is not installed: pip install -r builder/requirements-bake.txt\n"
