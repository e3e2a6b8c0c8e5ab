"""The real worker with a model that takes LOADING_SECONDS more to load."""

import os
import time

import handler
from engine.jobs.desk import Desk

load = Desk.preload


def take_long(self: Desk) -> None:
    time.sleep(float(os.environ["LOADING_SECONDS"]))
    load(self)


if __name__ == "__main__":
    Desk.preload = take_long  # type: ignore[method-assign]
    handler.main()
