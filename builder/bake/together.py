"""Several things at once, which all end soon when one of them fails by mistake or somebody presses Ctrl-C."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from engine.errors import Cancelled
from engine.storage.hooks import Check

R = TypeVar("R")
GRACE = 1.0  # seconds; who waits for a silent server, or for another bake, calls no check in that time


def together(
    keys: Iterable[str], task: Callable[[str, Check], R], jobs: int, say: Callable[[str], None]
) -> dict[str, R]:
    """What `task` returns for each key, `jobs` of them at a time.

    What a task raises, and Ctrl-C, is told at once and raised when the others have ended, which they do when they next
    call the check given to them, or were given GRACE to.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Cancelled("the bake was stopped")

    pool = ThreadPoolExecutor(jobs)
    under_way: dict[str, Future[R]] = {}
    try:
        for key in keys:
            under_way[key] = pool.submit(task, key, check)
        for each in wait(under_way.values(), return_when=FIRST_EXCEPTION).done:
            each.result()
    except BaseException:
        stop.set()
        say("stopping what is under way")
        pool.shutdown(wait=False, cancel_futures=True)
        wait([each for each in under_way.values() if not each.cancelled()], timeout=GRACE)
        raise
    pool.shutdown()
    return {key: each.result() for key, each in under_way.items()}
