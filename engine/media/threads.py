"""Work that runs ahead in a thread of its own, a few items at a time: decoding beside the model, for one."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):
    """The other side of a handoff has left: nothing more will be taken, or nothing more will come."""


class Handoff(Generic[T]):
    """A queue of at most `depth` items between two threads, which either side may leave at any time.

    Waiting is woken by events alone: nobody polls.
    """

    def __init__(self, depth: int) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._finished = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Wait for room and add the item. Raises Closed once the taker has left."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._depth or self._abandoned)
            if self._abandoned:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def take(self) -> T:
        """Wait for an item. Once the giver has finished and all is taken: raises its error, else Closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise Closed

    def finish(self, error: BaseException | None = None) -> None:
        """The giver's last word."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """The taker leaves: what is queued is dropped and a waiting giver wakes."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()


def ahead(iterable: Iterable[T], depth: int = 4, name: str = "ahead") -> Iterator[T]:
    """The iterable's items, made in a thread of their own that keeps at most `depth` of them ready.

    The thread starts with the first item asked for. An exception travels to the consumer after the items before it.
    Closing or dropping the iterator stops the thread at its next item, closes the iterable there (a generator's
    `finally` runs) and waits for both.
    """
    handoff: Handoff[T] = Handoff(depth)
    thread = threading.Thread(target=_produce, args=(iterable, handoff), name=name, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = handoff.take()
            except Closed:
                return
            yield item
            del item  # or the generator's frame would keep one more picture alive
    finally:
        handoff.abandon()
        thread.join()


def _produce(iterable: Iterable[T], handoff: Handoff[T]) -> None:
    """Move the items into the handoff until they end, fail or are no longer wanted."""
    iterator = iter(iterable)
    error: BaseException | None = None
    try:
        for item in iterator:
            handoff.put(item)
            del item
    except Closed:
        pass
    except BaseException as problem:  # noqa: BLE001 — it belongs to the consumer
        error = problem
    try:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    except BaseException as problem:  # noqa: BLE001 — likewise
        error = error or problem
    handoff.finish(error)
