"""What code that reads a checkpoint's names asks of its tensors, none of which need have been read."""

from typing import Protocol, TypeVar


class HasShape(Protocol):
    """A tensor, or the handle of one that has not been read."""

    @property
    def shape(self) -> tuple[int, ...]: ...


T = TypeVar("T", bound=HasShape)
