"""Tensors that are kept for the next job that asks the same, on the host, the ones used last."""

from collections.abc import Hashable

from torch import Tensor


class Remembered:
    """Tensors by key, together of at most `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Hashable, Tensor] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> Tensor | None:
        """What is kept under `key`."""
        if key not in self._kept:
            return None
        value = self._kept[key] = self._kept.pop(key)  # now the one used last
        return value

    def put(self, key: Hashable, value: Tensor) -> Tensor:
        """Keep a copy on the host, unless it alone is too large; others give way to it. Returns that copy."""
        value = value.cpu()
        self._kept[key] = value
        while sum(kept.nbytes for kept in self._kept.values()) > self._most:
            del self._kept[next(iter(self._kept))]
        return value
