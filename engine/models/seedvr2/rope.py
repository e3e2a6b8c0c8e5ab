"""Rotary positions inside a window: tables of unit complex numbers, one for each shape of window, and their use.

Two neighbours of a head's 128 values are one complex number; its rotation by an angle is a complex product. Angles
come from the formulas in float64: the tables that some files hold are too coarse (float16 is 0.25 rad off at the 7B's
highest frequency). RoFormer, arXiv:2104.09864; upstream models/dit_v2/rope.py and models/dit/rope.py.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from engine.models.seedvr2.config import HEAD, Kind
from engine.models.seedvr2.windows import Size

_AXIS_3B = HEAD // 3 // 2 * 2  # values of a head that each axis turns: 42, so that all but the last two are turned
_PAIRS_7B = HEAD // 2 // 3 // 2  # pairs that each axis turns: 10


@lru_cache(maxsize=256)
def video_table(kind: Kind, shape: Size, text: int, device: torch.device) -> Tensor:
    """(L, P) for the L tokens of a window, of whose heads the first P pairs turn. `text` is the prompt's length."""
    return _unit(video_angles(kind, shape, text), device)


@lru_cache(maxsize=16)
def text_table(kind: Kind, text: int, device: torch.device) -> Tensor | None:
    """(L, P) for a prompt of L tokens, or None where the prompt has no positions."""
    return _unit(text_angles(text), device) if kind == "3b" else None


def video_angles(kind: Kind, shape: Size, text: int) -> Tensor:
    """(L, P) in float64. The 3B's first frame follows the prompt; the 7B's positions span [-1, 1] whatever the size."""
    if kind == "3b":
        positions = [torch.arange(n, dtype=torch.float64) for n in shape]
        positions[0] += text
        frequencies = _frequencies_3b()
    else:
        positions = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape]
        frequencies = math.pi * torch.linspace(1, HEAD, _PAIRS_7B, dtype=torch.float64)
    axes = torch.meshgrid(*positions, indexing="ij")
    return torch.cat([axis.reshape(-1, 1) * frequencies for axis in axes], dim=1)


def text_angles(text: int) -> Tensor:
    """(L, P) in float64, for the 3B: token n of the prompt is at n on all three axes."""
    return (torch.arange(text, dtype=torch.float64)[:, None] * _frequencies_3b()).repeat(1, 3)


def rotate_(x: Tensor, table: Tensor) -> Tensor:
    """Turn x (..., L, streams, heads, 128), float32, in place by the table of its L positions."""
    turned = torch.unflatten(x[..., : 2 * table.shape[1]], -1, (-1, 2))
    torch.view_as_complex(turned).mul_(table[:, None, None])
    return x


def _frequencies_3b() -> Tensor:
    return 10000.0 ** (-torch.arange(0, _AXIS_3B, 2, dtype=torch.float64) / _AXIS_3B)


def _unit(angles: Tensor, device: torch.device) -> Tensor:
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64).to(device)
