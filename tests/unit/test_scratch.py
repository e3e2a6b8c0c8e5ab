"""A job's folder goes with the job, and what a killed worker left goes with the next one."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.errors import DiskFull
from engine.jobs.scratch import require_room, scratch_dir, sweep


def test_the_folder_is_made_under_its_root_and_goes_with_everything_in_it(tmp_path: Path) -> None:
    with scratch_dir(tmp_path / "new" / "root") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        assert folder.parent == tmp_path / "new" / "root"
    assert list((tmp_path / "new" / "root").iterdir()) == []


def test_the_folder_goes_when_the_job_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the job failed"), scratch_dir(tmp_path) as folder:
        (folder / "file").write_text("x")
        raise ValueError("the job failed")
    assert list(tmp_path.iterdir()) == []


def test_two_jobs_never_share_a_folder(tmp_path: Path) -> None:
    with scratch_dir(tmp_path) as one, scratch_dir(tmp_path) as other:
        assert one != other


def test_a_sweep_removes_our_folders_and_no_others(tmp_path: Path) -> None:
    with scratch_dir(tmp_path) as folder:
        left = folder.with_name(f"{folder.name}-of-a-killed-worker")
        left.mkdir()
        (left / "result.mp4.part").write_bytes(b"half")
    (tmp_path / "somebody-else-s").mkdir()
    assert sweep(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["somebody-else-s"]
    assert sweep(tmp_path / "missing") == 0


def test_room_is_demanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_room(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5_000_000))
    with pytest.raises(DiskFull, match="needs about 20 MB and the worker's disk has 5 MB left"):
        require_room(tmp_path, 20_000_000)
