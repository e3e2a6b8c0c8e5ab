"""The SDK's local modes: one job from a file or the command line, and the HTTP server."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.media import samples
from tests.worker.conftest import REPOSITORY, until

HANDLER = [sys.executable, str(REPOSITORY / "handler.py")]


def environment(folder: Path) -> dict[str, str]:
    """This process's own, without the platform's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")}
    return {**kept, "OUTPUT_DIR": str(folder / "results"), "SCRATCH_DIR": str(folder / "scratch")}


def run(folder: Path, *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*HANDLER, *arguments], cwd=cwd or folder, env=environment(folder), capture_output=True, text=True, timeout=240
    )


def test_the_shipped_job_leaves_a_playable_file(tmp_path: Path) -> None:
    done = run(tmp_path, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    reply = json.loads((tmp_path / "results" / "local_test" / "result.json").read_text())
    assert (reply["output"]["width"], reply["output"]["height"], reply["output"]["frames"]) == (640, 360, 75)
    assert reply["output"]["audio_tracks"] == 1
    assert "100%" in done.stderr  # the progress bar came to its end
    assert (tmp_path / "results" / "local_test" / "sample_x2.mp4").stat().st_size == reply["output"]["bytes"]


def test_a_job_from_the_command_line_takes_paths_below_the_working_folder(tmp_path: Path) -> None:
    samples.still(tmp_path / "still.png")
    done = run(tmp_path, "--test_input", json.dumps({"input": {"source": "still.png"}}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "results" / "local_test").glob("still_*.png"))


def test_a_bad_job_exits_with_one_and_says_why(tmp_path: Path) -> None:
    done = run(tmp_path, "--test_input", json.dumps({"input": {"sauce": 1}}))
    assert done.returncode == 1
    assert "INVALID_INPUT" in done.stdout


def test_a_wrong_environment_is_told_in_a_line(tmp_path: Path) -> None:
    wrong = environment(tmp_path) | {"URL_EXPIRES_S": "soon"}
    done = subprocess.run(HANDLER, cwd=tmp_path, env=wrong, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "URL_EXPIRES_S" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*HANDLER, "--rp_serve_api", "--rp_api_port", str(port), "--rp_api_host", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: _answers(port), seconds=60)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_the_local_server_runs_overlapping_jobs_one_at_a_time(server: str, tmp_path: Path) -> None:
    samples.video(tmp_path / "clip.mp4", frames=20)

    def post(_number: int) -> dict[str, Any]:
        reply = requests.post(f"{server}/runsync", json={"input": {"source": "clip.mp4"}}, timeout=240)
        return dict(reply.json())

    with ThreadPoolExecutor(3) as clients:
        replies = list(clients.map(post, range(3)))
    assert [reply["status"] for reply in replies] == ["COMPLETED"] * 3
    assert sorted(reply["output"]["metrics"]["cold"] for reply in replies) == [False, False, True]


def test_the_local_server_answers_a_bad_job_with_its_error(server: str) -> None:
    reply = requests.post(f"{server}/runsync", json={"input": {"sauce": 1}}, timeout=60).json()
    assert reply["status"] == "FAILED"
    assert reply["error"].startswith("INVALID_INPUT")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
