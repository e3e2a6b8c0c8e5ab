"""Progress of one job: what a caller polls, and how it is sent without ever overtaking the result.

`Progress` turns stages and frames into one percentage that never goes back and hands it to a sink. `Sender` is the
platform's sink: one thread per job, the latest report wins, two seconds apart, joined before the job answers.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

Report = dict[str, Any]
Sink = Callable[[Report], None]

log = logging.getLogger(__name__)

# The part of the whole, in percent, that each stage of a job takes up: frames are what takes the time.
STAGES = {
    "preflight": (0, 1),
    "download": (1, 7),
    "probe": (7, 8),
    "plan": (8, 8),
    "estimate": (8, 100),  # of a job that only plans
    "load": (8, 10),
    "process": (10, 94),
    "upload": (94, 100),
}
# The same of a job that makes a video and then enlarges it.
CHAINED = STAGES | {"process": (10, 70), "upscale": (70, 94)}
WARMING = {"load": (0, 100)}  # of a job that only loads a model

SAMPLING = 0.9  # of the stage in which frames are made, the part that denoising takes; the rest is decoding


class Progress:
    """Where a job stands. Not thread-safe: one thread runs a job."""

    def __init__(
        self,
        sink: Sink,
        clock: Callable[[], float] = time.monotonic,
        stages: Mapping[str, tuple[int, int]] = STAGES,
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._stages = stages
        self._percent = 0.0
        self._begin("preflight")

    def stage(self, name: str) -> None:
        """Begin the stage `name`."""
        self._begin(name)
        self._report(0.0, {"message": f"{name} began"})

    def _begin(self, name: str) -> None:
        self._stage = name
        self._began = self._timed = self._clock()  # when work began, and from when on it goes at one rate
        self._written = 0  # whole frames
        self._done = 0.0  # work on frames, those under way counted in part
        self._steps: float | None = None  # share of the denoising steps that is behind; None where there are none
        self._phase: str | None = None

    def expect_steps(self) -> None:
        """Of this stage most is denoising; the frames come at its end."""
        self._steps = 0.0

    def part(self, done: int, total: int | None) -> None:
        """`done` of `total` bytes of a transfer, or of weights; an unknown total moves nothing."""
        if total:
            share = 0.0 if self._stage == "upscale" else done / total  # its weights come before its work, the frames
            self._report(share, {"message": f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"})

    def frames(self, written: int, total: int) -> None:
        """`written` of `total` frames are out of the model's hands."""
        self._written = written
        self._advance(written, total, f"frame {written} of {total}")

    def phase(self, name: str, done: float, total: int) -> None:
        """The model's phase `name` begins, with `done` frames' worth of `total` behind it, in fractions."""
        self._phase = name
        if self._steps is None:
            self._advance(done, total, f"{name}: frame {min(int(done) + 1, total)} of {total}")
        else:
            self._advance(done, total, name)

    def step(self, done: int, total: int, frames: int) -> None:
        """`done` of `total` denoising steps are behind, of a video of `frames` frames; 0 before the first."""
        if not done:
            self._timed = self._clock()
        self._steps, self._phase = done / max(total, 1), "sample"
        self._advance(self._done, frames, f"step {done} of {total}")

    def _advance(self, done: float, total: int, message: str) -> None:
        """Tell how far the work on frames is, at which rate it goes and how much time is left."""
        self._done = max(self._done, done)
        fps = self._done / max(self._clock() - self._began, 1e-6)
        facts: Report = {"frames_done": self._written, "frames_total": total, "fps": round(fps, 2)}
        if self._phase is not None:
            facts["phase"] = self._phase
        share = self._done / max(total, 1)
        if self._steps is not None:
            share = SAMPLING * self._steps + (1 - SAMPLING) * share
        if share:
            facts["eta_s"] = round(max(1 - share, 0) / share * (self._clock() - self._timed), 1)
        self._report(share, {**facts, "message": message})

    def _report(self, share: float, facts: Report) -> None:
        low, high = self._stages[self._stage]
        self._percent = max(self._percent, low + (high - low) * min(share, 1.0))
        self._sink({"stage": self._stage, "progress": round(self._percent, 1), **facts})


class Sender:
    """A sink that sends from its own thread: the latest report only, at most one every `interval` seconds.

    Leaving the context drops what was not sent yet and waits for a report under way, so that none follows the result.
    A failed report is logged and forgotten: the next one tells more.
    """

    def __init__(self, send: Sink, interval: float = 2.0) -> None:
        self._send = send
        self._interval = interval
        self._latest: Report | None = None
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, report: Report) -> None:
        with self._wake:
            self._latest = report
            self._wake.notify()

    def close(self) -> None:
        """Send nothing more; returns when the thread has ended. May be called from any thread, and twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._latest is not None)
                if self._closed:
                    return
                report, self._latest = self._latest, None
            assert report is not None
            try:
                self._send(report)
            except Exception as error:  # noqa: BLE001 - a lost report must never cost the job
                log.warning("progress was not delivered: %s", type(error).__name__)
            with self._wake:
                self._wake.wait_for(lambda: self._closed, self._interval)
