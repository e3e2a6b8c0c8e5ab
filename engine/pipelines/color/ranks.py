"""Histogram matching by ranks: the k-th smallest value becomes the k-th smallest of another set.

Values are sorted as integers of the same order, which torch sorts by radix on a CPU as well: about ten times as fast as
floats there. Equal values keep their order, so the result is the same on every device.
"""

import torch
from torch import Tensor


def ascending(values: Tensor) -> Tensor:
    """The ordered keys of (n,) float32 values, which are overwritten: what `match` takes as its style."""
    return torch.sort(_flip(_keys(values)), stable=True).values


def match(content: Tensor, style: Tensor) -> Tensor:
    """(n,) float32 with the ranks of `content` and the values of the m ordered keys `style`.

    Where n is not m, rank k takes the style's rank floor(k / (n - 1) * (m - 1)), in float32. While this runs,
    `content` holds its own keys, which saves a copy.
    """
    n, m = len(content), len(style)
    if n != m:
        ranks = torch.linspace(0, 1, n, device=style.device).mul_(m - 1).int()
        style = style.index_select(0, ranks.clamp_(max=m - 1))  # float32 rounds above 2^24, up too
        del ranks
    keys = _flip(_keys(content))
    order = torch.sort(keys, stable=True).indices
    _flip(keys)
    matched = torch.empty_like(style).scatter_(0, order, style)
    del order  # the largest of all
    return _flip(matched).view(torch.float32)


def _keys(values: Tensor) -> Tensor:
    return values.add_(0.0).view(torch.int32)  # -0 becomes 0: they are equal


def _flip(bits: Tensor) -> Tensor:
    """Between the bits of floats and integers of the same order, in place; its own inverse."""
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))
