"""What code that reads a checkpoint's names asks of its tensors, none of which need have been read, and answers."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class HasShape(Protocol):
    """A tensor, or the handle of one that has not been read."""

    @property
    def shape(self) -> tuple[int, ...]: ...


T = TypeVar("T", bound=HasShape)
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Checkpoint(Generic[C, T]):
    """What a file holds: the sizes of a network, and `weights` by the names that the network has for them."""

    config: C
    weights: dict[str, T]
