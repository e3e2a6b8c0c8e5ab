"""One engine slot behind RunPod's loop: jobs one at a time, cancelled for real, drained on SIGTERM.

The SDK (1.12) cancels a job by cancelling its coroutine and would start the next one at once, so the coroutine waits
for the engine to let go. It calls `gate` in its main thread before every poll for a job: there the weights are
loaded before the first one, and there polling ends when the worker has to leave.
"""

import asyncio
import json
import logging
import math
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from engine.errors import Internal
from engine.jobs.cancel import CancelToken
from engine.jobs.failures import as_job_error, device_lost
from engine.jobs.progress import Report, Sender, Sink
from engine.logs import current_job
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.jobs.desk import Desk

MAX_REPLY_BYTES = 1_000_000
POST_SECONDS = 30
Reply = dict[str, Any]
log = logging.getLogger(__name__)


class Worker:
    """`handle` is the SDK's handler and `gate` its concurrency modifier."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slot = asyncio.Lock()
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._poll: asyncio.Task[Any] | None = None  # the SDK's, which asks for jobs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = False
        self._leaving = False
        self._exit_code = 0

    @cached_property
    def desk(self) -> "Desk":
        """The engine's collaborators; what is heavy to import comes with them."""
        from engine.jobs.desk import Desk

        return Desk.from_settings(self._settings)

    async def handle(self, job: dict[str, Any]) -> Reply:
        """Run `job` in the engine's thread. Cancelled, it returns only when the engine has let go."""
        async with self._slot:
            token = CancelToken()
            loop = asyncio.get_running_loop()
            work = loop.run_in_executor(self._engine, self._work, job, token, loop)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                token.set()
                while not work.done():
                    with suppress(asyncio.CancelledError):  # asked to stop twice: still not before the engine is free
                        await asyncio.wait([work])
                raise

    def _work(self, job: dict[str, Any], token: CancelToken, loop: asyncio.AbstractEventLoop) -> Reply:
        """Everything of a job, in the engine's thread: a reply that can be sent, whatever happens."""
        job_id = str(job.get("id", "unknown"))
        current_job.current = job_id
        try:
            with ExitStack() as stack:
                return fit_to_send(self._run(job, token, self._sink(job, token, loop, stack)))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: nothing may pass it but a reply
            reply = as_job_error(error, job_id).reply()
            if device_lost(error):
                reply["refresh_worker"] = True
                if not self._settings.local:
                    self._leave_after_job(1)
            return reply
        finally:
            current_job.current = None

    def _run(self, job: dict[str, Any], token: CancelToken, sink: Sink) -> Reply:
        from engine.jobs.run import run

        return run(job, self.desk, token, sink)

    def _sink(self, job: dict[str, Any], token: CancelToken, loop: asyncio.AbstractEventLoop, stack: ExitStack) -> Sink:
        """Where progress goes: a bar on a terminal; on the platform, one ordered sender that ends before the reply."""
        if self._settings.local:
            from engine.jobs.bar import Bar

            return stack.enter_context(Bar())

        def send(report: Report) -> None:
            if not token.is_set:
                post = asyncio.wait_for(_post(job, report), POST_SECONDS)  # given up for good: it must not come late
                asyncio.run_coroutine_threadsafe(post, loop).result()

        return stack.enter_context(Sender(send))

    def gate(self, current: int) -> int:
        """How many jobs to hold: 1 once the weights are in, 0 when leaving. Called by the SDK's loop; never raises."""
        if self._poll is None:
            self._poll, self._loop = asyncio.current_task(), asyncio.get_running_loop()
            signal.signal(signal.SIGTERM, self._on_signal)  # the SDK sets its own only just before its loop starts
            signal.signal(signal.SIGINT, self._on_signal)
            self._open()
        return 0 if self._leaving and not jobs_held() else 1

    def _open(self) -> None:
        """Load the default model before the first job is taken; a worker that cannot must not take any."""
        began = time.monotonic()
        try:
            self.desk.preload()
            log.info("ready for jobs: engine and weights took %.2f s", time.monotonic() - began)
        except (Exception, SystemExit) as error:
            log.critical("no jobs will be taken: %s", error, exc_info=error)
            self._exit(1)
        self._opened = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        log.info("%s: leaving as soon as no job is running", signal.Signals(number).name)
        if not self._opened:
            self._exit(0)
        self._leave_after_job(0)

    def _leave_after_job(self, code: int) -> None:
        """Take no more jobs; leave when the one that is running, if any, has been answered. From any thread."""
        self._exit_code = max(self._exit_code, code)
        if not self._leaving and self._loop is not None:
            self._leaving = True
            self._loop.call_soon_threadsafe(self._hang_up)

    def _hang_up(self) -> None:
        """In the loop, once no job runs: break off the poll, so that the platform keeps what is queued, and leave.

        The SDK itself would wait for the poll's end, and drop a job that came with it.
        """
        assert self._loop is not None and self._poll is not None
        if jobs_held():
            self._loop.call_later(0.02, self._hang_up)
            return
        self._poll.add_done_callback(lambda poll: self._exit(self._exit_code))
        self._poll.cancel()

    def _exit(self, code: int) -> NoReturn:
        """End this process and the heartbeat, which would outlive it and report the worker alive."""
        for child in multiprocessing.active_children():
            child.kill()
            child.join(1)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def jobs_held() -> int:
    """How many jobs the SDK has taken and not yet answered; each is counted until its result was sent."""
    from runpod.serverless.modules.worker_state import JobsProgress

    return int(JobsProgress().get_job_count())


async def _post(job: dict[str, Any], report: Report) -> None:
    """One progress report by the SDK's own way of sending."""
    from runpod.http_client import AsyncClientSession
    from runpod.serverless.modules.rp_http import send_result

    async with AsyncClientSession() as session:
        await send_result(session, {"status": "IN_PROGRESS", "output": report}, job)


def fit_to_send(reply: Reply) -> Reply:
    """`reply` as strict JSON holds it: numbers that JSON lacks become null. Raises Internal above 1 MB.

    A reply that carries its result inline may be larger: the platform takes 20 MB, the contract allows 5 MB of data.
    """
    clean = _finite(reply)
    inline = len((clean.get("output") or {}).get("base64") or "")
    size = len(json.dumps(clean, allow_nan=False)) - inline
    if size > MAX_REPLY_BYTES:
        raise Internal(f"the reply of {size} bytes is over the {MAX_REPLY_BYTES} that may be sent")
    return clean  # type: ignore[no-any-return]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
