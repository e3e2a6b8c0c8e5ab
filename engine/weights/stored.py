"""A tensor that lies in a file: its shape, type and place are known, its values are read when they are wanted."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from engine.weights.quants import BlockType

MOST_VALUES = 2**48  # more is damage, and would overflow
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True, slots=True)
class Stored:
    """`nbytes` bytes of `path` from `offset` on: row-major values of `dtype`, or blocks that stand for `shape`.

    dtype: of what lies in the file; uint8 where it is blocks.
    """

    path: Path
    offset: int
    shape: torch.Size
    dtype: torch.dtype
    block: BlockType | None = None

    @property
    def packed(self) -> bool:
        """True where the values take a byte or less each and are better kept so."""
        return self.block is not None or self.dtype in FP8

    @property
    def stored_shape(self) -> torch.Size:
        """The shape of what lies in the file: (N, bytes of a block), where it is blocks."""
        if self.block is None:
            return self.shape
        return torch.Size((self.shape.numel() // self.block.elements, self.block.nbytes))

    @property
    def nbytes(self) -> int:
        return self.stored_shape.numel() * self.dtype.itemsize

    def read(self) -> Tensor:
        """The values as they lie in the file, on the CPU. Raises ValueError where the file ends too early, OSError."""
        with open_plainly(self.path) as file:
            return self.read_from(file)

    def read_from(self, file: BinaryIO) -> Tensor:
        """The same, of a file that is open already."""
        raw = torch.empty(self.nbytes, dtype=torch.uint8)
        self.read_into(raw, file)
        return raw.view(self.dtype).view(self.stored_shape)

    def read_into(self, raw: Tensor, file: BinaryIO, start: int = 0) -> None:
        """Fill `raw`, (N,) bytes on the CPU, with the tensor's bytes from the `start`-th on."""
        file.seek(self.offset + start)
        left = raw.numpy().data
        while left:
            count = file.readinto(left)  # type: ignore[attr-defined]  # which every file without a buffer has
            if not count:
                raise ValueError(f"{self.path.name} ended while it was read")
            left = left[count:]


def as_shape(sizes: Iterable[object]) -> torch.Size:
    """Sizes from a header. Raises ValueError for what no tensor has."""
    shape = tuple(sizes)
    if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) > MOST_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"its header is damaged: no tensor is {shape}")
    return torch.Size(shape)  # type: ignore[arg-type]


def open_plainly(path: Path) -> BinaryIO:
    """The file without a buffer between: bytes go from the system's cache straight to where they are wanted."""
    return path.open("rb", buffering=0)
