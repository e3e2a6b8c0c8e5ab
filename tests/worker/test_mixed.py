"""Ten jobs of every kind on one worker, the last of them running when the worker is told to leave."""

import base64
import signal
from pathlib import Path

from tests.media import samples
from tests.worker.conftest import Bench, until


def test_ten_mixed_jobs_leave_no_anomaly(bench: Bench, tmp_path: Path) -> None:
    page = tmp_path / "page.mp4"
    page.write_text("<!DOCTYPE html><title>Sign in</title>")
    still = samples.still(tmp_path / "still.png")
    worker = bench.start()
    jobs = {
        "video": bench.submit(source=bench.clip("a.mp4", languages=("eng", "fra"))),
        "typo": bench.submit(source="a.mp4", resolutoin=720),
        "picture": bench.submit(source_base64=base64.b64encode(still.read_bytes()).decode(), destination="inline"),
        "gone": bench.submit(source=str(tmp_path / "nothing.mp4")),
        "info": bench.submit(action="info"),
        "estimate": bench.submit(source=str(tmp_path / "a.mp4"), dry_run=True),
        "cancelled": bench.submit(source=bench.clip("long.mp4", frames=1500, size=(320, 240)), preset="ultrafast"),
        "page": bench.submit(source=str(page)),
        "metadata": bench.submit(source="http://169.254.169.254/latest/meta-data/"),
        "last": bench.submit(source=bench.clip("b.mp4", frames=100, size=(160, 120)), preset="ultrafast"),
    }
    until(lambda: bench.frames_done(jobs["cancelled"]) > 0)
    bench.platform.cancel(jobs["cancelled"])
    until(lambda: bench.platform.jobs[jobs["last"]].status == "IN_PROGRESS")
    worker.send_signal(signal.SIGTERM)
    views = {name: bench.done(job) for name, job in jobs.items()}
    assert worker.wait(60) == 0

    told = {
        name: view["status"] if "error" not in view else view["error"].split(":")[0] for name, view in views.items()
    }
    for name, outcome in told.items():
        print(f"{name:10} {outcome}")
    assert told == {
        "video": "COMPLETED",
        "typo": "INVALID_INPUT",
        "picture": "COMPLETED",
        "gone": "SOURCE_NOT_FOUND",
        "info": "COMPLETED",
        "estimate": "COMPLETED",
        "cancelled": "CANCELLED",
        "page": "SOURCE_UNSUPPORTED",
        "metadata": "SOURCE_BLOCKED",
        "last": "COMPLETED",
    }
    assert views["picture"]["output"]["output"]["base64"]
    assert bench.leftovers() == []
    assert bench.platform.anomalies == []
