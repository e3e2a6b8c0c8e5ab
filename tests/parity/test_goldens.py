"""The goldens that lie in the repository, each as a test, and the runner's own manners."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.__main__ import check, goldens, main

DATA = Path(__file__).parent.parent / "data"
FOLDER = DATA / "goldens"


@pytest.mark.parametrize("path", list(goldens([FOLDER, DATA / "manifests"])), ids=lambda path: path.stem)
def test_our_output_is_the_published_one(path: Path) -> None:
    rows = check(path)
    assert rows
    assert [row for row in rows if not row.ok] == []


def test_a_wrong_output_fails_the_run_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = load_file(FOLDER / "rrdb_6_x4_detweights.safetensors")
    save_file({"x": golden["x"], "y": golden["y"] + 0.01}, tmp_path / "rrdb_6_x4_shifted.safetensors")
    assert main([str(tmp_path)]) == 1
    assert "rrdb_6_x4_detweights" not in (out := capsys.readouterr().out)
    assert "rrdb_6_x4_shifted" in out
    assert "FAILED" in out


def test_an_output_that_is_not_a_number_fails(tmp_path: Path) -> None:
    golden = load_file(FOLDER / "rrdb_6_x4_detweights.safetensors")
    save_file({"x": golden["x"], "y": golden["y"] * float("nan")}, tmp_path / "rrdb_6_x4_nan.safetensors")
    assert main([str(tmp_path)]) == 1


def test_an_unknown_kind_fails_unless_only_known_ones_are_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "mystery_1.safetensors")
    (tmp_path / "riddle.json").write_text("{}")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("unknown kind") == 2
    (tmp_path / "rrdb_6_x4_detweights.safetensors").write_bytes(
        (FOLDER / "rrdb_6_x4_detweights.safetensors").read_bytes()
    )
    assert main([str(tmp_path), "--known-only"]) == 0
    assert "unknown kind" not in capsys.readouterr().out


def test_a_folder_without_goldens_is_no_success(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 1
