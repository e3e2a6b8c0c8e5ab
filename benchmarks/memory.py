"""Peak memory of whole jobs with the bundled model: a clip of 3,000 frames against one of 300.

    python -m benchmarks.memory

Each job runs in a worker process of its own. Exits with 1 where the long clip takes over a tenth more.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.road import make_clip

SIZE = (160, 120)
SHORT, LONG = 300, 3000


def peak_mb(folder: Path, frames: int) -> int:
    """What the worker says it took at most."""
    make_clip(folder / "clip.mp4", frames, SIZE)
    job = {"id": "memory", "input": {"source": "clip.mp4", "preset": "veryfast"}}
    command = [sys.executable, str(Path(__file__).parents[1] / "handler.py"), "--test_input", json.dumps(job)]
    subprocess.run(command, cwd=folder, env={**os.environ, "OUTPUT_DIR": "results"}, check=True, capture_output=True)
    reply = json.loads((folder / "results" / "memory" / "result.json").read_text())
    assert reply["output"]["frames"] == frames
    return int(reply["metrics"]["peak_rss_mb"])


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        short, long = (peak_mb(Path(folder), frames) for frames in (SHORT, LONG))
    print(
        f"whole jobs, {SIZE[0]}x{SIZE[1]} x2: {SHORT} frames {short} MB, {LONG} frames {long} MB, {long / short:.3f}x"
    )
    return int(long > 1.1 * short)


if __name__ == "__main__":
    sys.exit(main())
