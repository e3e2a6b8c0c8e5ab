"""What networks call between any two pieces of work, so that somebody may break it off."""

from collections.abc import Callable

Check = Callable[[], None]
"""Raises when the work should stop. Cheap."""


def unchecked() -> None:
    """The `check` of somebody who never wants to break off."""
