"""`--convert` from end to end: tiny published files in, one file that a worker finds out."""

import json
from pathlib import Path

import pytest

from builder.tiny.layouts import make
from engine.catalog import built_in, locate
from tests.builder.baking import Bake, runner

PTH, FP8 = "tiny-seedvr2-3b-pth", "tiny-seedvr2-3b-fp8"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    make(folder, ["3b-pth", "3b-fp8"])
    return folder


@pytest.fixture
def bake(capsys: pytest.CaptureFixture[str], mirror: Path, lock: Path) -> Bake:
    return runner(capsys, mirror / "catalog.toml", lock)


def test_a_converted_network_takes_the_place_of_the_published(bake: Bake, mirror: Path, into: Path) -> None:
    ran = bake(PTH, "--convert", "--into", into, "--from", mirror)
    model = built_in().with_file(mirror / "catalog.toml").find(PTH)
    assert model
    assert ran.code == 0, ran.err
    assert not (into / model.files[0].key).exists()
    assert locate(model, [into]).missing == ()
    listed = json.loads((into / "manifests" / f"{PTH}.json").read_text())["files"]
    assert set(listed) == {f"converted/{PTH}.safetensors", *(file.key for file in model.files[1:])}


def test_converting_again_does_nothing(bake: Bake, mirror: Path, into: Path) -> None:
    bake(PTH, "--convert", "--into", into, "--from", mirror)
    before = {path: path.stat().st_mtime_ns for path in into.rglob("*") if path.is_file()}
    assert bake(PTH, "--convert", "--into", into, "--from", mirror).code == 0
    assert bake(PTH, "--into", into, "--from", mirror).code == 0
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*") if path.is_file()} == before
    assert bake("--verify", PTH, "--into", into).code == 0


def test_what_loads_fastest_already_stays(bake: Bake, mirror: Path, into: Path) -> None:
    ran = bake(FP8, "--convert", "--into", into, "--from", mirror)
    assert (ran.code, f"{FP8}: " in ran.err) == (0, True)
    assert "tiny_seedvr2_ema_3b_fp8_e4m3fn.safetensors" in {path.name for path in into.iterdir()}
