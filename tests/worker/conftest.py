"""A worker process of ours under the fake platform, with sources and results in folders of the test's own."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.media import samples
from tests.worker.fake_platform import FakePlatform

REPOSITORY = Path(__file__).parents[2]
Job = dict[str, Any]


class Bench:
    """One platform, one folder that is the worker's volume, and what tests do with both."""

    def __init__(self, platform: FakePlatform, volume: Path) -> None:
        self.platform = platform
        self.volume = volume
        self.scratch = volume / "scratch"
        self.log = volume / "worker.log"

    def start(self, *command: str, **env: str) -> "subprocess.Popen[bytes]":
        """Spawn a worker; it is killed at the end of the test if it still runs."""
        full = {
            "LOCAL_ROOTS": str(self.volume),
            "SCRATCH_DIR": str(self.scratch),
            "BUCKET_URL": "",
            "PYTHONPATH": str(REPOSITORY),
            **env,
        }
        with self.log.open("ab") as log:
            line = list(command) or [sys.executable, "-u", str(REPOSITORY / "handler.py")]
            return self.platform.spawn(line, env=full, stdout=log, stderr=log, cwd=self.volume)

    def clip(self, name: str = "clip.mp4", frames: int = 12, **options: Any) -> str:
        """A small video on the volume."""
        path = self.volume / name
        samples.video(path, frames=frames, **options)
        return str(path)

    def submit(self, **fields: Any) -> str:
        """Queue a job; its id."""
        if "action" not in fields:
            fields.setdefault("destination", {"volume": str(self.volume / "results")})
        return str(self.platform.run({"input": fields})["id"])

    def done(self, job_id: str, timeout: float = 240) -> Job:
        """The job's last view, once it is final."""
        view = self.platform.wait(job_id, timeout)
        assert view["status"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"), self.log.read_text()
        return view

    def frames_done(self, job_id: str) -> int:
        """How many frames the job's latest report tells of."""
        reports = self.platform.jobs[job_id].progress
        return int(reports[-1].get("frames_done", 0)) if reports else 0

    def takes(self) -> int:
        return len(self.platform.requests("job-take"))

    def leftovers(self) -> list[str]:
        """What jobs left in the scratch folder."""
        return [path.name for path in self.scratch.glob("*")] if self.scratch.exists() else []


def until(ready: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakePlatform(take_wait=5, stop_wait=5) as platform:
        yield Bench(platform, tmp_path)
        assert platform.anomalies == []


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny SeedVR2 and Wan2.1 checkpoints in every published layout, with their catalog."""
    from builder.tiny.layouts import make  # here, for `gguf` takes a moment to import

    folder = tmp_path_factory.mktemp("checkpoints")
    make(folder)
    return folder
