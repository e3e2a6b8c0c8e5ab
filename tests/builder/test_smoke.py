"""`python -m builder.smoke`: a line for each check, and an exit code that a build can stop at."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.smoke import digests, main, smoke
from builder.tiny.layouts import CATALOG, LAYOUTS, VAE, make
from engine.jobs.desk import Desk
from engine.settings import Settings

ROOT = Path(__file__).parents[2]
MODEL, FILE = "tiny-seedvr2-3b-fp16", LAYOUTS["3b-fp16"].file


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baked")
    make(folder, ["3b-fp16"])
    return folder


@pytest.fixture
def models(baked: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(baked, tmp_path / "models"))


@pytest.fixture
def worker(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of an image with one model baked into it."""
    for name, value in {"MODELS": MODEL, "MODELS_DIR": models, "CATALOG": models / CATALOG, "DEVICE": "cpu"}.items():
        monkeypatch.setenv(name, str(value))
    return models


def test_the_command_checks_what_the_worker_offers() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MODELS": "bundled"}
    command = [sys.executable, "-m", "builder.smoke", "--deep"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line[5:].split("  ")[1] for line in lines if line.startswith("ok   bundled")] == [
        "files",
        "networks",
        "digest",
        "inference",
    ]
    assert lines[-1] == "7 checks: 7 ok, 0 failed, 0 skipped"


def test_a_whole_model_passes(worker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--deep"]) == 0
    told = capsys.readouterr().out
    assert f"ok   {MODEL}  digest  {VAE}, 3.14 MB at " in told
    assert f"ok   {MODEL}  inference  loaded in " in told


def test_a_flipped_byte_is_found_by_its_digest_alone(worker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (worker / FILE).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    assert main([]) == 0
    assert main(["--deep"]) == 1
    told = capsys.readouterr().out
    assert f"FAIL {MODEL}  digest  {worker / FILE} has the sha256 " in told
    assert f"skip {MODEL}  inference  not tried after what failed" in told


def test_other_models_may_be_named_and_each_failure_has_its_line(
    worker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (worker / VAE).unlink()
    assert main(["bundled", MODEL, "tiny-seedvr2-3b-fp61"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in told if line.startswith("FAIL")] == [
        f"FAIL {MODEL}",
        "FAIL tiny-seedvr2-3b-fp61",
    ]
    assert any(line.startswith("ok   bundled  inference") for line in told)


def test_a_wrong_environment_is_a_line_and_not_a_traceback(
    worker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CATALOG", str(worker / "none.toml"))
    assert main([]) == 1
    assert capsys.readouterr().out.startswith("FAIL settings  the setting CATALOG is wrong")


def test_a_wrong_setting_is_one_line(
    worker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_PIXELS", "many")
    assert main([]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("FAIL settings  MAX_PIXELS: ") and "many" not in line


def test_a_model_too_large_for_the_processor_s_memory_is_not_run(models: Path) -> None:
    (finding,) = [each for each in smoke(desk(models, ram_budget_mb=100)) if each.check == "inference"]
    assert finding.passed is None and finding.text.endswith(" are free")


def test_files_that_only_the_manifest_knows_are_held_against_it(models: Path) -> None:
    text = (models / CATALOG).read_text()
    file = desk(models).model(None).files[0]
    (models / CATALOG).write_text(text.replace(f'sha256 = "{file.sha256}"', 'sha256 = "record"'))
    entry = {"bytes": (models / FILE).stat().st_size, "sha256": file.sha256, "licence": "MIT"}
    (models / "manifests").mkdir()
    (models / "manifests" / f"{MODEL}.json").write_text(json.dumps({"model": MODEL, "files": {FILE: entry}}))
    assert digest_of(desk(models), FILE).startswith(f"{FILE}, ")
    (models / "manifests" / f"{MODEL}.json").unlink()
    assert digest_of(desk(models), FILE).endswith("neither catalog nor manifest knows it")


def test_a_shared_file_that_another_models_manifest_knows_is_held_against_that(models: Path) -> None:
    text = (models / CATALOG).read_text()
    shared = next(file for file in desk(models).model(None).files if file.name == VAE)
    (models / CATALOG).write_text(text.replace(f'sha256 = "{shared.sha256}"', 'sha256 = "record"'))
    entry = {"bytes": shared.bytes, "sha256": "0" * 64, "licence": "MIT"}
    (models / "manifests").mkdir()
    (models / "manifests" / "earlier.json").write_text(json.dumps({"model": "earlier", "files": {VAE: entry}}))
    assert f"not {'0' * 64}; bake the model again" in digest_of(desk(models), VAE)
    (models / "manifests" / "earlier.json").write_text("{}")
    told = [each.text for each in digests(desk(models).model(None), (models,)) if each.passed is False]
    assert [text.startswith(f"{models}/manifests/earlier.json is not a manifest") for text in told] == [True]


def desk(models: Path, **settings: Any) -> Desk:
    given = {"models": (MODEL,), "models_dir": (models,), "catalog": (models / CATALOG,), "device": "cpu"}
    return Desk.from_settings(Settings(**{**given, **settings}))


def digest_of(desk: Desk, name: str) -> str:
    """What is said of that file's digest."""
    (text,) = [each.text for each in digests(desk.model(None), desk.settings.models_dir) if name in each.text]
    return text
