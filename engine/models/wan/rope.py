"""Rotary positions of the latent's tokens: a table of unit complex numbers, and its use.

Two neighbours of a head's values are one complex number; its rotation by an angle is a complex product. The first pairs
turn by the frame, the next by the row, the last by the column; each axis has frequencies from 1 down of its own.
RoFormer, arXiv:2104.09864; upstream wan/modules/model.py.
"""

from functools import lru_cache

import torch
from torch import Tensor


def axis_pairs(head: int) -> tuple[int, int, int]:
    """How many of a head's pairs turn by the frame, the row and the column."""
    pairs = head // 2
    return pairs - 2 * (pairs // 3), pairs // 3, pairs // 3


@lru_cache(maxsize=1)
def table(head: int, size: tuple[int, int, int], device: torch.device) -> Tensor:
    """(L, head / 2), complex64, for the L tokens of frames x rows x columns in that order. Angles are in float64."""
    axes = []
    for axis, (length, pairs) in enumerate(zip(size, axis_pairs(head), strict=True)):
        positions = torch.arange(length, dtype=torch.float64)
        angles = positions[:, None] * 10000.0 ** (-torch.arange(pairs, dtype=torch.float64) / max(pairs, 1))
        unit = torch.polar(torch.ones_like(angles), angles).to(torch.complex64).to(device)
        shape = [1, 1, 1, pairs]
        shape[axis] = length
        axes.append(unit.view(shape).expand(*size, pairs))
    return torch.cat(axes, dim=-1).flatten(0, 2)


def turned(x: Tensor, table: Tensor) -> Tensor:
    """x (L, B, D), float32, turned in place by the table of its L positions: (L, B, heads, head)."""
    pairs = torch.view_as_complex(torch.unflatten(x, -1, (-1, table.shape[1], 2)))
    return torch.view_as_real(pairs.mul_(table[:, None, None])).flatten(-2)
