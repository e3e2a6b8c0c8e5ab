"""One engine slot behind RunPod's loop: jobs one at a time, cancelled for real, drained on SIGTERM.

On the platform the engine starts in its own thread while the SDK is imported. Then the SDK calls, in the main thread,
`fit` before its heartbeat begins, and `gate` before every poll for a job: the one waits for the engine's imports and
checks, the other for the weights, so that no job is taken by a worker that cannot run it. Polling ends in `gate`, too,
when the worker has to leave. The SDK (1.12) cancels a job by cancelling its coroutine and would start the next one at
once, so the coroutine waits for the engine to let go.
"""

import asyncio
import gc
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cached_property
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from engine.errors import Internal, JobError
from engine.jobs.cancel import CancelToken
from engine.jobs.failures import as_job_error, device_lost
from engine.jobs.progress import Report, Sender, Sink
from engine.logs import current_job
from engine.sdk import bind_heartbeat, end_heartbeat, half_close, jobs_held, post, report_unhealthy
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.jobs.desk import Desk

MAX_REPLY_BYTES = 1_000_000
POST_SECONDS = 10  # a report that hangs may hold up the result for so long
POLL_SECONDS = 1  # that a platform may take to end a poll that nobody waits for
POLL_INTERVAL = 0.5  # s from one poll to the next; the SDK asks a platform that fails 500 times a second
Reply = dict[str, Any]
log = logging.getLogger(__name__)


class Worker:
    """`handle` is the SDK's handler, `fit` its fitness check and `gate` its concurrency modifier."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slot = asyncio.Lock()
        self._engine = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._poll: asyncio.Task[Any] | None = None  # the SDK's, which asks for jobs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start: Future[None] | None = None  # of the engine, on the platform
        self._checked = threading.Event()
        self._unfit: list[str] = []
        self._polling = False
        self._polled = -math.inf  # when the SDK last asked, in s of the monotonic clock
        self._poll_ends = math.inf  # when a poll that nobody waits for is broken off, by the same clock
        self._leaving = False
        self._exit_code = 0

    @cached_property
    def desk(self) -> "Desk":
        """The engine's collaborators; what is heavy to import comes with them."""
        from engine.jobs.desk import Desk

        return Desk.from_settings(self._settings)

    def begin(self) -> None:
        """Start the engine; to be called in the main thread, before the SDK is imported."""
        signal.signal(signal.SIGTERM, self._on_signal)  # which the kernel keeps from a container's first process else
        bind_heartbeat()
        gc.disable()  # which would look through all that is being imported, again and again: a tenth of the start
        self._start = self._engine.submit(self._prepare)
        self._engine.submit(self._finish)

    def _prepare(self) -> None:
        """Imports, checks, the default model's weights and one tiny shape, in the thread that jobs will run in."""
        try:
            self._check()
        finally:
            gc.freeze()  # what is imported stays, so later collections need not look at it
            gc.enable()
            self._checked.set()
        if not self._unfit:
            self.desk.preload()
            log.info("ready for jobs %.2f s after the process's start", self.desk.start_seconds)

    def _finish(self) -> None:
        """What else the first job would have to wait for, while the worker polls for it."""
        import_module("engine.jobs.run")
        self.desk.free_at = time.monotonic()

    def _check(self) -> None:
        from engine.jobs.fitness import examine

        try:
            for finding in examine(self.desk):
                if finding.passed is False:
                    self._refuse(str(finding))
                else:
                    log.info("%s", finding)
        except JobError as error:  # of a setting without which nothing can be checked
            self._refuse(error.message)

    def _refuse(self, reason: str) -> None:
        self._unfit.append(reason)
        log.critical("no jobs will be taken: %s", reason)

    def fit(self) -> None:
        """Raises where a check has failed: the SDK tells the platform and ends the process, before any heartbeat."""
        self._checked.wait()
        if self._unfit:
            raise Internal("; ".join(self._unfit))

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
                posting = asyncio.wait_for(post(job, report), POST_SECONDS)  # given up for good: it must not come late
                asyncio.run_coroutine_threadsafe(posting, loop).result()

        return stack.enter_context(Sender(send))

    def gate(self, current: int) -> int:
        """How many jobs to hold: 1 once the weights are in, 0 when leaving. Called by the SDK's loop; never raises."""
        if self._poll is None:
            signal.signal(signal.SIGTERM, self._on_signal)  # the SDK sets its own only just before its loop starts
            signal.signal(signal.SIGINT, self._on_signal)
            self._await_start()
            self._poll, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        held = jobs_held()
        if not (held or self._leaving):
            time.sleep(max(self._polled + POLL_INTERVAL - time.monotonic(), 0))  # nothing else is to be done meanwhile
            self._polled = time.monotonic()
        self._polling = not (held or self._leaving)  # for the SDK looks at both before it asks
        return 0 if self._leaving and not held else 1

    def _await_start(self) -> None:
        """Wait until the weights are in; signals are heeded meanwhile, and the heartbeat is a process of its own."""
        assert self._start is not None  # without `begin` the SDK polls nobody
        try:
            self._start.result()
        except (Exception, SystemExit) as error:
            log.critical("no jobs will be taken: %s", error, exc_info=None if isinstance(error, JobError) else error)
            end_heartbeat()  # whose next ping would say that all is well
            report_unhealthy("load", str(error))
            self._exit(1)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the signal may have come amid a write of the log's stream
            log.info("%s: leaving as soon as no job is running", signal.Signals(number).name)
        if self._loop is None:  # no job was ever taken
            self._exit(0)
        self._leave_after_job(0)

    def _leave_after_job(self, code: int) -> None:
        """Take no more jobs; leave when the one that is running, if any, has been answered. From any thread."""
        self._exit_code = max(self._exit_code, code)
        if not self._leaving and self._loop is not None:
            self._leaving = True
            self._loop.call_soon_threadsafe(self._hang_up)

    def _hang_up(self) -> None:
        """In the loop, once no job runs: end the poll, so that the platform keeps what is queued, and leave.

        The SDK itself would wait for the poll's end, and drop a job that came with it. Here the platform sees that
        nobody asks any more, over whichever connection, while a job that it has sent before that still arrives and is
        run. A poll that does not end in time is broken off; should a job come with that, it is run all the same.
        """
        assert self._loop is not None and self._poll is not None
        idle, now = not jobs_held(), time.monotonic()
        if idle and not self._polling:
            self._exit(self._exit_code)
        if idle:
            half_close()
            self._poll_ends = min(self._poll_ends, now + POLL_SECONDS)
        if idle and now > self._poll_ends:
            self._poll.add_done_callback(lambda poll: self._exit(self._exit_code))
            self._poll.cancel()
        self._loop.call_later(0.02, self._hang_up)

    def _exit(self, code: int) -> NoReturn:
        """End this process, and the heartbeat before it."""
        end_heartbeat()
        for stream in (sys.stdout, sys.stderr):
            with suppress(RuntimeError, OSError):  # likewise, or nobody reads it any more
                stream.flush()
        os._exit(code)


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
