"""`ahead`: order, bounds, errors and leaving early."""

import threading
from collections.abc import Iterator

import pytest

from engine.media.threads import ahead


def test_items_come_in_order_and_end() -> None:
    assert list(ahead(range(100), depth=3)) == list(range(100))


def test_the_producer_runs_in_another_thread() -> None:
    def names() -> Iterator[str]:
        yield threading.current_thread().name

    assert list(ahead(names(), name="producer")) == ["producer"]


def test_no_more_than_depth_items_wait() -> None:
    made: list[int] = []
    full = threading.Event()

    def numbers() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 3:  # one taken, two waiting, this one in hand
                full.set()
            yield number

    stream = ahead(numbers(), depth=2)
    assert next(stream) == 0
    assert full.wait(60)
    assert made == [0, 1, 2, 3]
    stream.close()  # type: ignore[attr-defined]


def test_an_error_follows_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    stream = ahead(failing())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)


@pytest.mark.parametrize("how", ["close", "drop"])
def test_leaving_early_closes_the_iterable_and_ends_the_thread(how: str) -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    stream = ahead(endless(), depth=2, name="endless")
    next(stream)
    if how == "close":
        stream.close()  # type: ignore[attr-defined]
    del stream
    assert closed.is_set()
    assert "endless" not in {thread.name for thread in threading.enumerate()}
