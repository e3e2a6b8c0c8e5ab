"""Counts the bytes of the tensors alive while torch code runs, on any device, `meta` included.

On `meta` nothing is computed, so the memory of a full-size network at full size is measured in a moment. What a kernel
takes for itself and what an allocator wastes is not seen.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


class LiveBytes(TorchDispatchMode):
    """`peak`: the most bytes that tensors made inside the context held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given: set[int] = set()
        tree_map_only(torch.Tensor, lambda t: given.add(t.untyped_storage()._cdata), (args, kwargs or {}))
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, lambda t: self._saw(t, given), out)
        self.peak = max(self.peak, self.now)
        return out

    @property
    def now(self) -> int:
        """Bytes alive at this moment."""
        self._alive = {key: row for key, row in self._alive.items() if not row[0].expired()}
        return sum(size for _, size in self._alive.values())

    def _saw(self, tensor: torch.Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._alive or storage._cdata not in given:  # a view of what was there before is no news
            self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
