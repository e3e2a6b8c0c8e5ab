"""The memory of SeedVR2 jobs does not grow with the clip: peaks of whole processes, by the kernel's own mark."""

import json
from pathlib import Path

import pytest

from tests.media import samples
from tests.worker.tiny import UNPOOLED, run_handler

SHORT = 10  # frames


def grown(folder: Path, checkpoints: Path, frames: int, size: tuple[int, int]) -> float:
    """What a job of `frames` frames takes more than one of SHORT, as a part of what the frames more are as decoded."""
    short, long = (peak_mb(folder / str(number), checkpoints, number, size) for number in (SHORT, frames))
    kept = (frames - SHORT) * size[0] * size[1] * 3 / 2 / 2**20
    print(f"peak memory: {SHORT} frames {short} MB, {frames} frames {long} MB; the frames more, kept: {kept:.0f} MB")
    return (long - short) / kept


def peak_mb(folder: Path, checkpoints: Path, frames: int, size: tuple[int, int]) -> int:
    """Of a job with batches of 5 frames, in a process of its own."""
    folder.mkdir()
    samples.video(folder / "clip.mp4", frames=frames, size=size)
    given = {"source": "clip.mp4", "resolution": 24, "batch_size": 5, "preset": "ultrafast"}
    reply = json.loads((run_handler(folder, checkpoints, UNPOOLED, **given) / "result.json").read_text())
    assert (reply["output"]["frames"], reply["plan"]["batch_size"]) == (frames, 5)
    return int(reply["metrics"]["peak_rss_mb"])


def test_a_hundred_frames_take_what_ten_take(tmp_path: Path, checkpoints: Path) -> None:
    assert grown(tmp_path, checkpoints, 100, (640, 480)) < 0.5


@pytest.mark.slow
def test_a_thousand_frames_take_what_ten_take(tmp_path: Path, checkpoints: Path) -> None:
    assert grown(tmp_path, checkpoints, 1000, (320, 240)) < 0.2
