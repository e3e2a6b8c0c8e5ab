"""The engine slot without a platform: no report comes late, no job starts beside another."""

import asyncio
import gc
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from runpod.serverless.modules.rp_scale import JobScaler
from runpod.serverless.modules.worker_state import JobsProgress

import handler
from engine import sdk, worker
from engine.errors import Internal
from engine.settings import Settings, complaint
from engine.worker import Worker

ON_PLATFORM = Settings(runpod_webhook_get_job="http://127.0.0.1:9/job-take/x")


def test_a_report_that_hangs_is_given_up_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    posting = threading.Event()

    async def hang(job: object, report: object) -> None:
        posting.set()
        try:
            await asyncio.Event().wait()
        finally:
            order.append("given up")

    def run(job: object, token: object, sink: Any) -> dict[str, Any]:
        sink({"stage": "process", "progress": 1})
        posting.wait(60)
        return {}

    async def main() -> None:
        await slot.handle({"id": "a", "input": {}})
        order.append("result")

    slot = Worker(ON_PLATFORM)
    monkeypatch.setattr(worker, "POST_SECONDS", 0.05)
    monkeypatch.setattr(worker, "post", hang)
    monkeypatch.setattr(slot, "_run", run)
    asyncio.run(main())
    assert order == ["given up", "result"]


def test_a_cancelled_job_holds_the_slot_until_its_thread_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    started, go = threading.Event(), threading.Event()

    def run(job: dict[str, Any], token: Any, sink: object) -> dict[str, Any]:
        order.append(f"{job['id']} began")
        started.set()
        if job["id"] == "a":
            go.wait(60)
            token.check()
        return {}

    async def main() -> None:
        first = asyncio.create_task(slot.handle({"id": "a"}))
        await asyncio.to_thread(started.wait, 60)
        second = asyncio.create_task(slot.handle({"id": "b"}))
        for _ in range(2):  # being asked twice changes nothing
            first.cancel()
            await asyncio.sleep(0.05)
        assert not first.done() and order == ["a began"]
        go.set()
        await asyncio.wait([first, second])
        assert first.cancelled() and second.result() == {}

    slot = Worker(ON_PLATFORM)
    monkeypatch.setattr(slot, "_run", run)
    asyncio.run(main())
    assert order == ["a began", "b began"]


def test_a_job_that_comes_as_the_poll_is_broken_off_is_answered_before_the_worker_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` gives an answer that is there already, rather than to be cancelled."""
    order: list[str] = []
    held = JobsProgress()

    async def poll() -> None:
        slot.gate(1)
        slot._leave_after_job(0)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            held.add("late")
        slot.gate(1)
        await asyncio.sleep(0.1)
        held.remove("late")
        order.append("answered")
        for _ in range(100):
            slot.gate(1)
            await asyncio.sleep(0.01)
        order.append("stayed")

    slot = Worker(ON_PLATFORM)
    slot._start = Future()
    slot._start.set_result(None)
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(worker, "half_close", lambda: order.append("hung up"))
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        asyncio.run(poll())
    assert ended.value.code == 0
    assert order[0] == "hung up" and order[-1] == "answered"


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_job_that_is_cancelled_before_it_began_is_stopped_and_given_back(turns: int) -> None:
    sdk.import_runpod()
    held, began = JobsProgress(), list[str]()

    async def work(session: object, config: object, job: dict[str, Any]) -> None:
        began.append(job["id"])
        await asyncio.sleep(60)

    async def main() -> None:
        scaler = JobScaler({})
        scaler.jobs_handler = work
        await scaler.jobs_queue.put({"id": "a"})
        held.add("a")
        runner = asyncio.create_task(scaler.run_jobs(None))
        for _ in range(turns):  # of the loop, in one of which the job begins
            await asyncio.sleep(0)
        assert await scaler.stop_job("a")
        scaler.kill_worker()
        await asyncio.wait_for(runner, 5)

    asyncio.run(main())
    assert began == ["a"] and not held


class Busy(io.StringIO):
    """A stream amid a write when the signal comes."""

    def write(self, text: str) -> int:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    def flush(self) -> None:
        self.write("")


def test_a_signal_amid_a_write_still_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(sys, "stderr", Busy())
    monkeypatch.setattr(worker.log, "handlers", [logging.StreamHandler(sys.stderr)])
    monkeypatch.setattr(worker.log, "level", logging.INFO)
    with pytest.raises(SystemExit) as ended:
        Worker(ON_PLATFORM)._on_signal(signal.SIGTERM, None)
    assert ended.value.code == 0


def test_an_operator_may_have_the_sdk_s_own_checks_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "false"})
    sdk.import_runpod()
    assert os.environ["RUNPOD_SKIP_GPU_CHECK"] == "true"
    assert os.environ["RUNPOD_SKIP_AUTO_SYSTEM_CHECKS"] == "false"


def test_what_the_sdk_has_no_use_for_is_imported_when_it_is_used() -> None:
    script = """
import sys
from engine import sdk
sdk.import_runpod()
assert "paramiko.transport" not in sys.modules
from runpod.cli.utils import ssh_cmd
assert "paramiko.transport" not in sys.modules
client = ssh_cmd.paramiko.SSHClient
assert client is sys.modules["paramiko"].SSHClient is ssh_cmd.paramiko.SSHClient
import paramiko.transport
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("MAX_PIXELS", "secret", "should be a number of pixels, or a product such as 8192x8192"),
        ("MAX_OUTPUT_PIXELS", "8192xsecret", "should be a number of pixels, or a product such as 8192x8192"),
        ("DEVICE", "secret", "should be 'auto', 'cuda' or 'cpu'"),
        ("GPU_IDLE_TIMEOUT", "-1", "should be greater than or equal to 0"),
        ("MAX_INPUT_FRAMES", "secret", "should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_a_wrong_setting_ends_the_process_with_what_it_should_be(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        handler.main()
    assert ended.value.code == f"the environment is wrong: {variable}: {told}"


def test_every_wrong_setting_is_told_in_one_line() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.from_env({"URL_EXPIRES_S": "3", "DTYPE": "int8"})
    assert complaint(caught.value) == (
        "URL_EXPIRES_S: should be greater than or equal to 60; DTYPE: should be 'auto', 'bf16', 'fp16' or 'fp32'"
    )


@pytest.fixture
def _unfrozen() -> Iterator[None]:
    """What a worker's start keeps from being collected is given back to the tests after this one."""
    yield
    assert gc.isenabled()
    gc.unfreeze()


@pytest.mark.usefixtures("_unfrozen")
def test_all_that_failed_is_told_to_the_sdk_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unfit = Worker(ON_PLATFORM.model_copy(update={"models": ("bundeld",), "scratch_dir": tmp_path / "file" / "below"}))
    unfit._prepare()
    with pytest.raises(Internal, match=r"^scratch folder  writable  .*; bundeld  name  the setting MODELS is wrong"):
        unfit.fit()


@pytest.mark.usefixtures("_unfrozen")
def test_a_wrong_catalog_is_told_to_the_sdk(tmp_path: Path) -> None:
    unfit = Worker(ON_PLATFORM.model_copy(update={"catalog": (tmp_path / "none.toml",)}))
    unfit._prepare()
    with pytest.raises(Internal, match=r"the setting CATALOG is wrong: none.toml cannot be read"):
        unfit.fit()
