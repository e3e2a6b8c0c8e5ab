"""How far downloads are: bars on a terminal, now and then a line in a build's log."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from engine.amounts import size
from engine.storage.hooks import Progress

EVERY = 5.0  # seconds between two lines about one file


class Display(Protocol):
    """What a person sees while files come in; used from several threads at once."""

    def say(self, line: str) -> None:
        """One line that stays."""

    def follow(self, name: str) -> AbstractContextManager[Progress]:
        """A context whose value takes the progress of one file."""


class Lines:
    """For a log: a line for each file every few seconds."""

    def __init__(self, out: TextIO, every: float = EVERY, now: Callable[[], float] = time.monotonic) -> None:
        self._out, self._every, self._now = out, every, now

    def say(self, line: str) -> None:
        self._out.write(f"{line}\n")  # at once: `print` would let another thread's line in before the line's end
        self._out.flush()

    @contextmanager
    def follow(self, name: str) -> Iterator[Progress]:
        began = last = self._now()
        first: int | None = None

        def progress(done: int, total: int | None) -> None:
            nonlocal last, first
            now = self._now()
            first = done if first is None or done < first else first
            if now - last >= self._every:
                last = now
                self.say(f"{name}: {described(done, total, (done - first) / (now - began))}")

        yield progress


class Bars:
    """For a terminal: a bar for each file under way."""

    def __init__(self, out: TextIO) -> None:
        from tqdm import tqdm

        self._tqdm, self._out = tqdm, out

    def say(self, line: str) -> None:
        self._tqdm.write(line, file=self._out)

    @contextmanager
    def follow(self, name: str) -> Iterator[Progress]:
        with self._tqdm(desc=name[-40:], unit="B", unit_scale=True, leave=False, file=self._out) as bar:

            def progress(done: int, total: int | None) -> None:
                bar.total = total
                if not bar.n:
                    bar.initial = bar.n = done  # an earlier run's bytes say nothing of this one's rate
                bar.update(done - bar.n)

            yield progress


def display(out: TextIO) -> Display:
    """What fits the place that it is written to."""
    return Bars(out) if out.isatty() else Lines(out)


def described(done: int, total: int | None, rate: float) -> str:
    """`1.2 GB of 3.39 GB, 35 %, 98 MB/s, 0:22 left`, as far as it is known."""
    parts = [f"{size(done)} of {size(total)}, {done / total:.0%}".replace("%", " %") if total else size(done)]
    if rate > 0:
        parts.append(f"{size(rate)}/s")
        parts += [f"{duration((total - done) / rate)} left"] if total else []
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`1:05` or `2:00:09`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
