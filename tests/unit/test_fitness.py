"""Our own checks: a machine is judged by what jobs need of it, and a failure says what would be right."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from builder.tiny.layouts import CATALOG, LAYOUTS, VAE, make
from engine.jobs import fitness
from engine.jobs.desk import Desk
from engine.jobs.fitness import Unfit, device, examine, files, runs_on, scratch
from engine.residency import MIB
from engine.settings import Settings

MODEL, FILE = "tiny-seedvr2-3b-fp16", LAYOUTS["3b-fp16"].file


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baked")
    make(folder, ["3b-fp16", "wan-i2v-original"])
    return folder


@pytest.fixture
def models(baked: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(baked, tmp_path / "models"))


def desk(*folders: Path, models: tuple[str, ...] = (MODEL,), **settings: Any) -> Desk:
    given = {"models": models, "models_dir": folders, "catalog": (folders[-1] / CATALOG,), "device": "cpu", **settings}
    return Desk.from_settings(Settings(**given))


def failures(desk: Desk) -> list[str]:
    return [str(finding) for finding in examine(desk) if finding.passed is False]


def test_a_whole_model_passes_in_a_line_for_each_check(models: Path) -> None:
    lines = [str(finding) for finding in examine(desk(models, models=(MODEL, "tiny-wan-i2v-original")))]
    assert [line.split("  ")[:2] for line in lines] == [
        ["device", "usable"],
        ["scratch folder", "writable"],
        ["encoder", "h264"],
        [MODEL, "files"],
        [MODEL, "networks"],
        ["tiny-wan-i2v-original", "files"],
        ["tiny-wan-i2v-original", "networks"],
    ]
    assert failures(desk(models)) == []


def test_half_a_model_is_told_by_file_and_by_where_was_looked(models: Path, tmp_path: Path) -> None:
    (models / VAE).unlink()
    (line,) = failures(desk(tmp_path / "empty", models))
    assert line.startswith(f"{MODEL}  files  {VAE} is missing; 3 of its 4 files are here; looked in ")
    assert line.endswith(f"{tmp_path / 'empty'}, {models}")


def test_a_truncated_file_is_told_with_both_sizes(models: Path) -> None:
    whole = (models / FILE).stat().st_size
    with (models / FILE).open("r+b") as file:
        file.truncate(whole // 2)
    (line,) = failures(desk(models))
    assert f"{models / FILE} has {whole // 2:,} bytes, not the {whole:,} of {FILE}" in line


def test_another_network_of_the_right_size_is_found_out_unread(models: Path) -> None:
    content = (models / VAE).read_bytes()
    (models / VAE).write_bytes(content.replace(b"decoder.conv_in.weight", b"decoder.conv_on.weight"))
    (line,) = failures(desk(models))
    assert line.startswith(f"{MODEL}  networks  {VAE}: missing decoder.conv_in")


def test_a_name_that_nobody_knows_is_told_with_the_nearest(models: Path) -> None:
    (line,) = failures(desk(models, models=("tiny-seedvr2-3b-fp61",)))
    assert line.startswith("tiny-seedvr2-3b-fp61  name  the setting MODELS is wrong: no model is called")
    assert f"`{MODEL}`" in line
    assert failures(desk(models, models=())) == ["MODELS  name  the setting names no model"]


# ---- Places -----------------------------------------------------------------------------------------------------


def test_models_are_looked_for_in_the_image_then_on_the_volume_then_in_runpod_s_cache() -> None:
    assert list(map(str, Settings().models_dir)) == [
        "/models",
        "/runpod-volume/models",
        "/runpod-volume/huggingface-cache/hub",
    ]


def test_the_first_folder_wins_and_each_file_is_looked_for_by_itself(models: Path, tmp_path: Path) -> None:
    volume, cache = tmp_path / "volume", tmp_path / "cache"
    for folder in (volume, cache):
        shutil.copytree(models, folder)
    own = desk(models, volume, cache)
    assert {path.parent for path in own._setup(own.model(None)).paths.values()} == {models}
    (models / FILE).unlink()
    paths = own._setup(own.model(None)).paths
    assert (paths[FILE], paths[VAE]) == (volume / FILE, models / VAE)
    assert failures(own) == []


# ---- Manifests --------------------------------------------------------------------------------------------------


def manifest(models: Path, **changes: Any) -> None:
    """One as `bake` leaves it, of the network alone."""
    entry = {"bytes": (models / FILE).stat().st_size, "sha256": "0" * 64, "licence": "MIT", **changes}
    (models / "manifests").mkdir()
    (models / "manifests" / f"{MODEL}.json").write_text(json.dumps({"model": MODEL, "files": {FILE: entry}}))


def test_what_the_manifest_tells_is_held_against_the_file(models: Path) -> None:
    own = desk(models)
    known = own.model(None).files[0].sha256
    manifest(models, sha256=known)
    assert files(own.model(None), (models,)).endswith(", 1 as baked")
    shutil.rmtree(models / "manifests")
    manifest(models, sha256=known, bytes=5)
    assert "and its manifest says 5; bake the model again" in failures(own)[0]


def test_a_network_converted_from_other_files_than_the_catalog_s_is_told(models: Path) -> None:
    own = desk(models)
    manifest(models, sha256=own.model(None).files[0].sha256, converted_from={FILE: "0" * 64})
    assert "was baked with another digest than the catalog's; bake the model again" in failures(own)[0]


def test_a_manifest_that_is_none_is_told(models: Path) -> None:
    (models / "manifests").mkdir()
    (models / "manifests" / f"{MODEL}.json").write_text("[]")
    assert "is not a manifest of baked files" in failures(desk(models))[0]


# ---- The machine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((8, 9), ["sm_80", "sm_86", "sm_90"], True),
        ((8, 0), ["sm_86", "sm_90"], False),
        ((7, 5), ["sm_80", "sm_90", "compute_90"], False),
        ((12, 0), ["sm_80", "sm_90", "sm_100", "sm_120"], True),
        ((12, 1), ["sm_80", "sm_120f"], True),
        ((13, 0), ["sm_90a", "sm_120"], False),
        ((13, 0), ["sm_120", "compute_120"], True),
        ((9, 0), [], False),
    ],
)
def test_a_gpu_runs_kernels_of_its_own_generation_or_such_as_can_be_compiled(
    capability: tuple[int, int], built: list[str], runs: bool
) -> None:
    assert runs_on(capability, built) is runs


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_told() -> None:
    with pytest.raises(Unfit, match=r"DEVICE=cuda, and torch .* can use no GPU here: .* \(DEVICE=cpu does without\)"):
        device("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_was_given_and_cannot_be_used_is_no_reason_to_compute_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert device("auto").startswith("cpu, ")
    monkeypatch.setattr(fitness, "GPU_FILES", (tmp_path,))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(Unfit, match="DEVICE=auto, and torch"):
        device("auto")
    assert device("cpu").startswith("cpu, ")


class Card:
    """What torch tells of a GPU older than its kernels."""

    init = get_device_name = staticmethod(lambda: "Tesla T4")
    get_device_capability = staticmethod(lambda: (7, 5))
    get_arch_list = staticmethod(lambda: ["sm_80", "sm_90"])


def test_a_gpu_too_old_for_the_build_is_told_by_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", Card)
    with pytest.raises(Unfit, match=r"Tesla T4 has compute capability 7.5; torch .* has kernels for sm_80, sm_90"):
        device("cuda")


def test_a_scratch_folder_has_to_be_writable_and_to_hold_a_small_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scratch(tmp_path / "new").startswith(f"{tmp_path / 'new'}, ")
    (tmp_path / "file").touch()
    assert not fitness.made("scratch folder", "writable", lambda: scratch(tmp_path / "file" / "below")).passed
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(100 * MIB))
    with pytest.raises(Unfit, match="has 105 MB left and even a small job takes 268 MB"):
        scratch(tmp_path)


def test_whatever_a_check_raises_is_its_finding() -> None:
    def look() -> str:
        raise KeyError("conv")

    assert str(fitness.made("m", "networks", look)) == "m  networks  KeyError: 'conv'"
