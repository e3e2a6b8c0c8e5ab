"""The real worker with a model that takes two seconds more to load."""

import time

import handler
from engine.jobs.desk import Desk

load = Desk.preload


def take_long(self: Desk) -> None:
    time.sleep(2)
    load(self)


if __name__ == "__main__":
    Desk.preload = take_long  # type: ignore[method-assign]
    handler.main()
