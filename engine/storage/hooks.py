"""The two things that every transfer tells its caller about: whether to go on, and how far it is."""

from collections.abc import Callable

Check = Callable[[], None]
"""Called between pieces of work; raises when the job was cancelled or ran out of time."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and, where known, the bytes in all."""

PIECE = 1 << 20
"""Bytes held in memory at a time, whatever the size of the file."""


def unchecked() -> None:
    """A check that never objects."""


def unseen(_done: int, _total: int | None) -> None:
    """A progress that nobody watches."""
