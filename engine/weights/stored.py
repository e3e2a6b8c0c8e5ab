"""A tensor that lies in a file: its shape, type and place are known, its values are read when they are wanted."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from engine.weights.quants import BlockType

MOST_VALUES = 2**48  # more is damage, and would overflow
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True, slots=True)
class Stored:
    """`nbytes` bytes of `path` from `offset` on: row-major values of `dtype`, or blocks that stand for `shape`.

    dtype: of what lies in the file; uint8 where it is blocks. scale: what the values are multiplied by, one number or
    one for each row, (N,) or (N, 1).
    """

    path: Path
    offset: int
    shape: torch.Size
    dtype: torch.dtype
    block: BlockType | None = None
    scale: "Stored | None" = None

    @property
    def stored_shape(self) -> torch.Size:
        """The shape of what lies in the file: (N, bytes of a block), where it is blocks."""
        if self.block is None:
            return self.shape
        return torch.Size((self.shape.numel() // self.block.elements, self.block.nbytes))

    @property
    def nbytes(self) -> int:
        return self.stored_shape.numel() * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> "Stored":
        """This part of the first dimension. Raises ValueError where a row is no whole number of blocks."""
        row = self.shape[1:].numel()
        if self.block is not None and row % self.block.elements:
            raise ValueError(f"rows of {row} values cannot be told apart in {self.block.name} blocks")
        part = range(self.shape[0])[start:stop]
        scale = self.scale if self.scale is None or self.scale.shape.numel() == 1 else self.scale.rows(start, stop)
        before = replace(self, shape=torch.Size((part.start, *self.shape[1:]))).nbytes
        shape = torch.Size((len(part), *self.shape[1:]))
        return replace(self, offset=self.offset + before, shape=shape, scale=scale)

    def read(self) -> Tensor:
        """The values as they lie in the file, unscaled, on the CPU. Raises ValueError if it ends too early, OSError."""
        with self.path.open("rb") as file:
            return self.read_from(file.fileno())

    def read_from(self, file: int) -> Tensor:
        """The same, of a file that is open already."""
        raw = torch.empty(self.nbytes, dtype=torch.uint8)
        self.read_into(raw, file)
        return raw.view(self.dtype).view(self.stored_shape)

    def read_into(self, raw: Tensor, file: int, start: int = 0) -> None:
        """Fill `raw`, (N,) bytes on the CPU, with the tensor's from the `start`-th on. Threads may share a file."""
        left, place = raw.numpy().data, self.offset + start
        while left:
            count = os.preadv(file, [left], place)
            if not count:
                raise ValueError(f"{self.path.name} ended while it was read")
            left, place = left[count:], place + count


def as_shape(sizes: Iterable[object]) -> torch.Size:
    """Sizes from a header. Raises ValueError for what no tensor has."""
    shape = tuple(sizes)
    if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) > MOST_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"its header is damaged: no tensor is {shape}")
    return torch.Size(shape)  # type: ignore[arg-type]
