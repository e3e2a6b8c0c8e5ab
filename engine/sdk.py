"""RunPod's SDK (1.12), imported lean, and all that is known here of its insides.

Where it would lose a job, its parts are replaced: `_persevere` and `_heed_early_stops`.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import socket
import stat
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

# What the SDK reads while it is imported or started; an operator's own values stand.
SDK_DEFAULTS = {
    "RUNPOD_LOG_LEVEL": "INFO",  # DEBUG, its default, logs signed links
    # Its checks end a good worker whose image fills the disk, that cannot reach 8.8.8.8, or whose first kernel is slow.
    "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
    "RUNPOD_SKIP_GPU_CHECK": "true",
}
PR_SET_PDEATHSIG = 1  # of prctl(2): what a child is sent when its parent ends


class Later(ModuleType):
    """Stands in for a module until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def import_runpod() -> Any:
    """The SDK, without the second that its debugger spends on asking `cpuinfo` for the processor's name.

    Nor is `paramiko`, which only its command line uses, imported for it: that would be a third of its own import.
    """
    for name, value in SDK_DEFAULTS.items():
        os.environ.setdefault(name, value)
    stub = ModuleType("cpuinfo")
    stub.__dict__["get_cpu_info"] = dict
    sys.modules.setdefault("cpuinfo", stub)
    sys.modules.setdefault("paramiko", Later("paramiko"))
    import runpod

    _persevere()
    _heed_early_stops()
    return runpod


def jobs_held() -> int:
    """How many jobs the SDK has taken and not yet answered; each is counted until its result was sent."""
    from runpod.serverless.modules.worker_state import JobsProgress

    return int(JobsProgress().get_job_count())


async def post(job: dict[str, Any], report: dict[str, Any]) -> None:
    """One progress report by the SDK's own way of sending."""
    from runpod.http_client import AsyncClientSession
    from runpod.serverless.modules.rp_http import send_result

    async with AsyncClientSession() as session:
        await send_result(session, {"status": "IN_PROGRESS", "output": report}, job)


def report_unhealthy(check: str, reason: str) -> None:
    """One ping that tells the platform why this worker ends, as the SDK sends it for a check that failed."""
    with suppress(Exception):  # told or not, the worker ends
        from runpod.serverless.modules.rp_fitness import _report_unhealthy

        _report_unhealthy(check, reason)


def bind_heartbeat() -> None:
    """Have the SDK's process that reports this worker alive, which it forks, end with it, though this one be killed."""
    os.register_at_fork(after_in_child=partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGKILL))


def end_heartbeat() -> None:
    """End that process now."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join(1)


def half_close() -> None:
    """End the sending half of this process's TCP connections: of the polls alone, while no job runs."""
    with suppress(OSError):  # a system without this folder
        for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            with suppress(OSError):  # closed by now, or a socket that listens
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    with socket.socket(fileno=os.dup(descriptor)) as connection:
                        if connection.family != socket.AF_UNIX:
                            connection.shutdown(socket.SHUT_WR)


def _persevere() -> None:
    """Have the SDK try for a minute and a half to send a result, over a connection that was lost, too.

    Its own three attempts end after two seconds, and at once where the connection breaks.
    """
    from aiohttp import ClientConnectionError
    from aiohttp_retry import ExponentialRetry
    from runpod.serverless.modules import rp_http

    patient = ExponentialRetry(9, 0.25, statuses={429}, exceptions={ClientConnectionError})
    rp_http.FibonacciRetry = lambda attempts: patient


def _heed_early_stops() -> None:
    """Have the SDK stop a job, too, that it has taken and not yet begun, which it does ten times a second."""
    from runpod.serverless.modules.rp_scale import JobScaler

    stop_job = JobScaler.stop_job

    async def stop(scaler: Any, job_id: str) -> bool:
        while job_id not in scaler.jobs_tasks and scaler.job_progress.get(job_id):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0)  # a task that is cancelled before its first step never gives its job back
        return bool(await stop_job(scaler, job_id))

    JobScaler.stop_job = stop
