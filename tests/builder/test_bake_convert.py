"""`--convert` from end to end: tiny published files in, one file that a worker finds out."""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.bake.bake import TIME, room_needed
from builder.bake.converting import room
from builder.bake.wanted import files
from builder.tiny.layouts import make
from engine.catalog import Model, built_in, locate
from tests.builder.baking import Bake, runner

PTH, FP8 = "tiny-seedvr2-3b-pth", "tiny-seedvr2-3b-fp8"
KEY = f"converted/{PTH}.safetensors"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirror")
    make(folder, ["3b-pth", "3b-fp8"])
    return folder


@pytest.fixture
def bake(capsys: pytest.CaptureFixture[str], mirror: Path, lock: Path) -> Bake:
    return runner(capsys, mirror / "catalog.toml", lock)


@pytest.fixture
def model(mirror: Path) -> Model:
    """The one that has something to gain."""
    found = built_in().with_file(mirror / "catalog.toml").find(PTH)
    assert found
    return found


def manifest(into: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((into / "manifests" / f"{PTH}.json").read_text())
    return content


def flip(path: Path) -> None:
    """The last byte's last bit."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def age(into: Path, **changes: object) -> None:
    """Make the manifest say that the network was converted otherwise."""
    content = manifest(into)
    content["files"][KEY] |= changes
    (into / "manifests" / f"{PTH}.json").write_text(json.dumps(content))


def test_a_converted_network_takes_the_place_of_the_published(
    bake: Bake, mirror: Path, into: Path, model: Model
) -> None:
    ran = bake(PTH, "--convert", "--into", into, "--from", mirror)
    assert ran.code == 0, ran.err
    assert not (into / model.files[0].key).exists()
    assert locate(model, [into]).missing == ()
    listed = manifest(into)["files"]
    assert set(listed) == {KEY, *(file.key for file in model.files[1:])}
    assert listed[KEY]["converted_from"] == {model.files[0].key: model.files[0].sha256}


def test_converting_again_does_nothing(bake: Bake, mirror: Path, into: Path) -> None:
    bake(PTH, "--convert", "--into", into, "--from", mirror)
    before = {path: path.stat().st_mtime_ns for path in into.rglob("*") if path.is_file()}
    assert bake(PTH, "--convert", "--into", into, "--from", mirror).code == 0
    assert bake(PTH, "--into", into, "--from", mirror).code == 0
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*") if path.is_file()} == before
    assert bake("--verify", PTH, "--into", into).code == 0


def test_what_loads_fastest_already_stays(bake: Bake, mirror: Path, into: Path) -> None:
    ran = bake(FP8, "--convert", "--into", into, "--from", mirror)
    assert ran.code == 0
    assert f"{FP8}: its weights are packed, and stay so when they are loaded" in ran.err.splitlines()
    assert "tiny_seedvr2_ema_3b_fp8_e4m3fn.safetensors" in {path.name for path in into.iterdir()}
    assert not list(into.glob("converted/*.safetensors"))
    assert {path.stat().st_mtime for path in (into, *into.rglob("*"))} == {TIME}


def test_what_was_fetched_before_is_converted_without_a_source(bake: Bake, mirror: Path, into: Path) -> None:
    bake(PTH, "--into", into, "--from", mirror)
    assert bake(PTH, "--convert", "--into", into).code == 0  # the catalog itself has no address for it
    assert (into / KEY).is_file()


def test_a_converted_network_that_was_spoilt_is_made_anew(bake: Bake, mirror: Path, into: Path) -> None:
    bake(PTH, "--convert", "--into", into, "--from", mirror)
    good = (into / KEY).read_bytes()
    flip(into / KEY)
    ran = bake(PTH, "--convert", "--into", into, "--from", mirror)
    assert (ran.code, (into / KEY).read_bytes() == good) == (0, True)
    assert f"{KEY}: has changed since it was baked" in ran.err
    assert bake("--verify", "--into", into).code == 0


@pytest.mark.parametrize("change", [{"converted_form": "0"}, {"converted_from": {}}, {"converted_from": {KEY: "0"}}])
def test_a_conversion_of_other_files_or_to_another_form_is_made_anew(
    bake: Bake, mirror: Path, into: Path, change: dict[str, object]
) -> None:
    bake(PTH, "--convert", "--into", into, "--from", mirror)
    whole = manifest(into)
    age(into, **change)
    told = f"{KEY}: is not what would be converted now; bake {PTH} again"
    assert [bake("--verify", *names, "--into", into).errors for names in ((), (PTH,))] == [[told], [told]]
    assert bake(PTH, "--convert", "--into", into, "--from", mirror).code == 0
    assert manifest(into) == whole


def test_a_conversion_that_no_longer_holds_gives_way_to_the_published_network(
    bake: Bake, mirror: Path, into: Path, model: Model
) -> None:
    """A worker would take the converted one before it."""
    bake(PTH, "--convert", "--into", into, "--from", mirror)
    age(into, converted_form="0")
    assert bake(PTH, "--into", into, "--from", mirror).code == 0
    assert locate(model, [into]).paths[model.files[0].name] == into / model.files[0].key
    assert KEY not in manifest(into)["files"]


def test_a_manifest_cannot_have_files_elsewhere_removed(bake: Bake, mirror: Path, into: Path, model: Model) -> None:
    victim = into.parent / "victim"
    victim.write_text("keep me")
    bake(PTH, "--into", into, "--from", mirror)
    content = manifest(into)
    content["files"]["../victim"] = {**content["files"][model.files[0].key], "bytes": 7}
    content["files"][model.files[0].key]["path"] = "../victim"
    (into / "manifests" / f"{PTH}.json").write_text(json.dumps(content))
    assert bake(PTH, "--convert", "--into", into, "--from", mirror).code == 0
    assert victim.read_text() == "keep me"


def test_a_conversion_that_the_disk_fails_leaves_the_others_their_manifests(
    bake: Bake, mirror: Path, into: Path
) -> None:
    part = into / f"{KEY}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to(part)  # which no system opens
    ran = bake(PTH, FP8, "--convert", "--into", into, "--from", mirror)
    assert ran.errors == [
        f"{PTH}: cannot be converted: the disk failed at {part}: Too many levels of symbolic links; its published "
        "files stay"
    ]
    assert {path.stem for path in (into / "manifests").iterdir()} == {PTH, FP8}


def test_room_is_asked_for_what_a_conversion_writes(bake: Bake, mirror: Path, into: Path, model: Model) -> None:
    bake(PTH, "--convert", "--into", into, "--from", mirror)
    assert room(model) == pytest.approx((into / KEY).stat().st_size, rel=0.02)
    packed = built_in().find("seedvr2-3b-fp8")
    assert packed and room(packed) == 0
    wanted = files([model])
    lying = room_needed(into, {}, wanted, converting=True)
    assert lying == room(model) and room_needed(into, {}, wanted, converting=False) == 0
