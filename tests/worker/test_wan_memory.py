"""The memory of Wan2.1 jobs does not grow with the video, but by its latents: frames are streamed in and out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.jobs.cancel import CancelToken
from engine.jobs.progress import Report
from engine.jobs.run import run
from engine.pipelines.wan.memory import LATENT_COPIES, latent_frames
from engine.pipelines.wan.networks import Networks
from engine.residency import MIB
from tests.worker.conftest import Bench
from tests.worker.tiny import T2V, UNPOOLED, environment, offering

SHORT, LONG = 50, 250  # frames
EDGE = 64
SOURCE = (320, 240)  # so large that frames which are kept show: the 200 more are 46 MB as decoded
NOISE = 4  # MB that the kernel's mark may move by for reasons of the allocator's


def grown_mb(bench: Bench, **fields: Any) -> int:
    """What a job of LONG frames takes more than one of SHORT ones did before it, in the same process."""
    peaks = []
    for frames in (SHORT, SHORT, LONG):  # the first pays what a process pays once
        given = {"prompt": "a cat", "size": f"{EDGE}*{EDGE}", "steps": 1, "guidance": 1, "preset": "ultrafast"}
        done = bench.done(bench.submit(**{**given, "frames": frames, **fields}), timeout=240)
        assert done["status"] == "COMPLETED" and done["output"]["output"]["frames"] == frames, done
        peaks.append(int(done["output"]["metrics"]["peak_rss_mb"]))
    print(f"peak memory: {SHORT} frames {peaks[1]} MB, {LONG} frames {peaks[2]} MB")
    return peaks[2] - peaks[1]


def test_five_times_as_many_frames_take_no_more_than_their_latents(bench: Bench, checkpoints: Path) -> None:
    """Were the frames kept, they would take 10 MB of numbers from text, which is more than is allowed."""
    bench.start(**environment(checkpoints, T2V), **UNPOOLED)
    latents = 4 * 16 * (latent_frames(LONG) - latent_frames(SHORT)) * (EDGE // 8) ** 2
    most = NOISE + LATENT_COPIES * latents / MIB
    clip = bench.clip("clip.mp4", frames=LONG, fps=16, size=SOURCE)
    assert grown_mb(bench) <= most
    assert grown_mb(bench, video=clip, fit="crop", strength=0, size="32*32") <= most


def test_frames_leave_before_the_next_latent_is_decoded(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, frames, decoded = Networks.decode, 21, [0]
    ahead: list[int] = []

    def noting(*arguments: Any) -> Iterator[torch.Tensor]:
        for part in decode(*arguments):
            decoded[0] += part.shape[2]
            yield part

    def sink(report: Report) -> None:
        if "frames_done" in report and report["message"].startswith("frame "):
            ahead.append(decoded[0] - report["frames_done"])

    monkeypatch.setattr(Networks, "decode", noting)
    with offering(tmp_path, checkpoints, (T2V,)) as worker:
        fields = {"prompt": "a cat", "size": "32*32", "frames": frames, "steps": 1, "preset": "ultrafast"}
        run({"id": "streamed", "input": fields}, worker.worker.desk, CancelToken(), sink)
    assert len(ahead) == frames and max(ahead) < 4  # a latent is four frames
