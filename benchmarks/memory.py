"""Peak memory of whole jobs: long clips against short ones, with the bundled model and with a tiny SeedVR2.

    python -m benchmarks.memory

Each job runs in a worker process of its own. Exits with 1 where the longest clip takes over a tenth more than the one
before. SeedVR2 restores up to 21 frames at once on a CPU, so that its shortest clip fills no batch.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.road import make_clip
from builder.tiny.layouts import make
from tests.worker.tiny import environment

Size = tuple[int, int]


def peak_mb(folder: Path, frames: int, size: Size, variables: Mapping[str, str]) -> int:
    """What the worker says it took at most."""
    make_clip(folder / "clip.mp4", frames, size)
    job = {"id": "memory", "input": {"source": "clip.mp4", "preset": "veryfast", "outscale": 2}}
    command = [sys.executable, str(Path(__file__).parents[1] / "handler.py"), "--test_input", json.dumps(job)]
    given = {**os.environ, **variables, "OUTPUT_DIR": "results"}
    subprocess.run(command, cwd=folder, env=given, check=True, capture_output=True)
    reply = json.loads((folder / "results" / "memory" / "result.json").read_text())
    assert reply["output"]["frames"] == frames
    return int(reply["metrics"]["peak_rss_mb"])


def growth(name: str, size: Size, counts: tuple[int, ...], variables: Mapping[str, str]) -> float:
    """Print a row; the longest clip's peak over that of the one before."""
    with tempfile.TemporaryDirectory() as folder:
        peaks = [peak_mb(Path(folder), frames, size, variables) for frames in counts]
    told = ", ".join(f"{frames} frames {peak} MB" for frames, peak in zip(counts, peaks, strict=True))
    print(f"whole jobs, {name}, {size[0]}x{size[1]} x2: {told}, {peaks[-1] / peaks[-2]:.3f}x", flush=True)
    return peaks[-1] / peaks[-2]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), ["3b-fp16"])
        grown = [
            growth("bundled", (160, 120), (300, 3000), {}),
            growth("tiny SeedVR2", (48, 32), (10, 100, 1000), environment(Path(folder))),
        ]
    return int(max(grown) > 1.1)


if __name__ == "__main__":
    sys.exit(main())
