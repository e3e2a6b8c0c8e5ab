"""Several things at once, which all end soon when one of them fails by mistake or somebody presses Ctrl-C."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from engine.errors import Cancelled
from engine.storage.hooks import Check

R = TypeVar("R")


def together(keys: Iterable[str], task: Callable[[str, Check], R], jobs: int) -> dict[str, R]:
    """What `task` returns for each key, `jobs` of them at a time.

    What a task raises is raised when the others have ended, which they do when they next call the check given to them.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Cancelled("the bake was stopped")

    with ThreadPoolExecutor(jobs) as pool:
        try:
            under_way = {key: pool.submit(task, key, check) for key in keys}
            for each in wait(under_way.values(), return_when=FIRST_EXCEPTION).done:
                each.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {key: each.result() for key, each in under_way.items()}
