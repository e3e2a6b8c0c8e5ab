"""The real worker with a first model that takes LOADING_SECONDS more to load, from a disk that may be slow.

While there is a file SLOW_DISK, every tensor takes half a second.
"""

import os
import time
from pathlib import Path

from torch import Tensor, dtype

import handler
from engine.jobs.desk import Desk
from engine.weights.reading import Reader
from engine.weights.stored import Stored

load = Desk.preload
numbers = Reader.numbers


def take_long(self: Desk) -> None:
    time.sleep(float(os.environ.get("LOADING_SECONDS", "0")))
    load(self)


def from_disk(self: Reader, stored: Stored, dtype: dtype) -> Tensor:
    if Path(os.environ.get("SLOW_DISK", "none")).exists():
        time.sleep(0.5)
    return numbers(self, stored, dtype)


if __name__ == "__main__":
    Desk.preload = take_long  # type: ignore[method-assign]
    Reader.numbers = from_disk  # type: ignore[method-assign]
    handler.main()
