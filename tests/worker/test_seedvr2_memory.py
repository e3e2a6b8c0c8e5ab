"""The memory of SeedVR2 jobs does not grow with the clip: peaks of whole processes, by the kernel's own mark."""

import json
from pathlib import Path

import pytest

from tests.media import samples
from tests.worker.tiny import run_handler

SOURCE = (640, 480)  # so large that frames which are kept show: 1,000 take 460 MB as decoded, 100 take 46
MOST = 1.10


def peak_mb(folder: Path, checkpoints: Path, frames: int) -> int:
    """Of a job with batches of 5 frames, in a process of its own."""
    folder.mkdir()
    samples.video(folder / "clip.mp4", frames=frames, size=SOURCE)
    given = {"source": "clip.mp4", "resolution": 24, "batch_size": 5, "preset": "ultrafast"}
    reply = json.loads((run_handler(folder, checkpoints, **given) / "result.json").read_text())
    assert (reply["output"]["frames"], reply["plan"]["batch_size"]) == (frames, 5)
    return int(reply["metrics"]["peak_rss_mb"])


def test_a_hundred_frames_take_what_ten_take(tmp_path: Path, checkpoints: Path) -> None:
    short, long = (peak_mb(tmp_path / str(frames), checkpoints, frames) for frames in (10, 100))
    print(f"peak memory: 10 frames {short} MB, 100 frames {long} MB")
    assert long <= MOST * short


@pytest.mark.slow
def test_a_thousand_frames_take_what_ten_take(tmp_path: Path, checkpoints: Path) -> None:
    short, long = (peak_mb(tmp_path / str(frames), checkpoints, frames) for frames in (10, 1000))
    print(f"peak memory: 10 frames {short} MB, 1,000 frames {long} MB")
    assert long <= MOST * short
