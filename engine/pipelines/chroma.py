"""Chroma planes between their own grid and luma's, along each axis by where the samples lie.

Both ways are linear, and what was enlarged is reduced to the same samples again, so that chroma which a network left
alone does not blur from one generation to the next.
"""

from typing import Literal

import torch
from torch import Tensor

Phase = Literal["full", "on", "between"]  # not subsampled; on every other luma sample; midway between two


def phase(sub_h: int, sub_w: int, siting: int) -> tuple[Phase, Phase]:
    """(vertical, horizontal) phase for a chroma location: 1 left, 2 centre, 3 top left, 4 top.

    The bottom ones, which no common encoder writes, count as the middle of theirs (5 as 1, 6 as 2).
    """
    vertical: Phase = "full" if sub_h == 1 else "on" if siting in (3, 4) else "between"
    horizontal: Phase = "full" if sub_w == 1 else "on" if siting in (1, 3, 5) else "between"
    return vertical, horizontal


def upsample(x: Tensor, phases: tuple[Phase, Phase], height: int, width: int) -> Tensor:
    """(..., h, w) -> (..., height, width), luma's size."""
    return _double(_double(x, phases[0], -2), phases[1], -1)[..., :height, :width]


def downsample(x: Tensor, phases: tuple[Phase, Phase]) -> Tensor:
    """(..., H, W) -> (..., ceil(H / 2), ceil(W / 2)) along the axes that are subsampled."""
    return _halve(_halve(x, phases[1], -1), phases[0], -2)


def _double(x: Tensor, where: Phase, dim: int) -> Tensor:
    """Between samples the mean of two; around samples a line of their neighbours' slope, level at the edges."""
    if where == "full":
        return x
    if where == "on":
        pair = (x, torch.lerp(x, _shift(x, 1, dim), 0.5))
    else:
        slope = torch.zeros_like(x)
        if (inner := x.shape[dim] - 2) > 0:
            slope.narrow(dim, 1, inner).copy_(x.narrow(dim, 2, inner) - x.narrow(dim, 0, inner))
        pair = (x.sub(slope, alpha=0.125), x.add(slope, alpha=0.125))
    return torch.stack(pair, dim=dim if dim == -1 else -2).flatten(dim - 1, dim)


def _halve(x: Tensor, where: Phase, dim: int) -> Tensor:
    """The inverse of `_double`: the mean of two; or every other sample, moved by what its neighbours say beyond it.

    The latter is the low-pass half of the LeGall 5/3 wavelet, (-1, 2, 6, 2, -1) / 8, by lifting.
    """
    if where == "full":
        return x
    even, odd = _every_other(x, 0, dim), _every_other(x, 1, dim)
    if odd.shape[dim] < even.shape[dim]:  # an odd size ends as if its last sample were repeated
        odd = torch.cat((odd, even.narrow(dim, even.shape[dim] - 1, 1)), dim)
    if where == "between":
        return torch.lerp(even, odd, 0.5)
    beyond = odd - torch.lerp(even, _shift(even, 1, dim), 0.5)
    return even.add(beyond, alpha=0.25).add_(_shift(beyond, -1, dim), alpha=0.25)


def _every_other(x: Tensor, start: int, dim: int) -> Tensor:
    return x[..., start::2] if dim == -1 else x[..., start::2, :]


def _shift(x: Tensor, by: int, dim: int) -> Tensor:
    """The neighbour of each sample, one on for 1 and one back for -1; the sample itself at the edge."""
    length = x.shape[dim]
    inner = x.narrow(dim, max(by, 0), length - 1)
    edge = x.narrow(dim, length - 1 if by > 0 else 0, 1)
    return torch.cat((inner, edge) if by > 0 else (edge, inner), dim)
