"""RunPod's entry point.

python handler.py                          one job from test_input.json, on this machine
python handler.py --test_input '{...}'     one job from the command line
python handler.py --rp_serve_api           a local HTTP server with the SDK's four routes
(RUNPOD_WEBHOOK_GET_JOB set)               a worker of the platform's queue
"""

import asyncio
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from engine.logs import configure
from engine.settings import Settings, complaint
from engine.worker import Worker

# What the SDK reads while it is imported or started; an operator's own values stand.
SDK_DEFAULTS = {
    "RUNPOD_LOG_LEVEL": "INFO",  # DEBUG, its default, logs signed links
    # Its checks end a good worker whose image fills the disk, that cannot reach 8.8.8.8, or whose first kernel is slow.
    "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
    "RUNPOD_SKIP_GPU_CHECK": "true",
}


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

    persevere()
    heed_early_stops()
    return runpod


def persevere() -> None:
    """Have the SDK try for a minute and a half to send a result, over a connection that was lost, too.

    Its own three attempts end after two seconds, and at once where the connection breaks.
    """
    from aiohttp import ClientConnectionError
    from aiohttp_retry import ExponentialRetry
    from runpod.serverless.modules import rp_http

    patient = ExponentialRetry(9, 0.25, statuses={429}, exceptions={ClientConnectionError})
    rp_http.FibonacciRetry = lambda attempts: patient


def heed_early_stops() -> None:
    """Have the SDK stop a job, too, that it has taken and not yet begun, which it does ten times a second."""
    from runpod.serverless.modules.rp_scale import JobScaler

    stop_job = JobScaler.stop_job

    async def stop(scaler: Any, job_id: str) -> bool:
        while job_id not in scaler.jobs_tasks and scaler.job_progress.get(job_id):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0)  # a task that is cancelled before its first step never gives its job back
        return bool(await stop_job(scaler, job_id))

    JobScaler.stop_job = stop


def main() -> None:
    """Start the worker the way the environment and the command line ask for."""
    try:
        settings = Settings.from_env(os.environ)
    except ValidationError as error:
        sys.exit(f"the environment is wrong: {complaint(error)}")
    configure(settings)  # before the SDK, which would configure the root logger while it is imported
    worker = Worker(settings)
    if not settings.local:
        worker.begin()
    runpod = import_runpod()
    if not settings.local:
        runpod.serverless.register_fitness_check(worker.fit)
    runpod.serverless.start({"handler": worker.handle, "concurrency_modifier": worker.gate})


if __name__ == "__main__":
    main()
