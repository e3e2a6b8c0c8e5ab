"""Wavelet correction: the content's detail on the style's low frequencies, by an à trous pyramid of five levels.

A level is [1, 2, 1] / 4 along rows and along columns, taps 1, 2, 4, 8, 16 pixels apart, the picture's edge repeated.
Steps along rows and along columns commute, so all five along rows are done first, a band of rows at a time, then all
five along columns, a band of columns at a time: no band has to see beyond itself.
"""

import torch
from torch import Tensor

from engine.pipelines.color.pieces import bands, piece_pixels

RADII = (1, 2, 4, 8, 16)


def reconstruct(content: Tensor, style: Tensor, out: Tensor) -> Tensor:
    """content - low(content) + low(style) of one frame, in [-1, 1]: (3, H, W) of any float type -> float32 `out`.

    Blurring is linear: one pyramid of the difference takes the place of two.
    """
    out.copy_(style).sub_(content)
    low_pass_(out)
    return out.add_(content).clamp_(-1, 1)


def low_pass_(x: Tensor) -> None:
    """Blur (C, H, W) in place. In small pictures the taps lie at most an eighth of the shorter side apart."""
    height, width = x.shape[1:]
    widest = max(min(height, width) // 8, 1)
    radii = [min(r, widest) for r in RADII]
    pixels = piece_pixels(x.device)
    for rows in bands(height, width, pixels):
        _smooth_(x[:, rows], radii, dim=-1)
    for columns in bands(width, height, pixels):
        _smooth_(x[:, :, columns], radii, dim=-2)


def _smooth_(x: Tensor, radii: list[int], dim: int) -> None:
    if x.shape[dim] == 1:
        return
    levels = torch.empty(2, *x.shape, device=x.device)
    level = x
    for i, r in enumerate(radii):
        level = _add_taps(level, r, dim, out=levels[i % 2])
    torch.mul(level, 0.25 ** len(radii), out=x)  # a power of two: exact, at the end as after each level


def _add_taps(x: Tensor, r: int, dim: int, out: Tensor) -> Tensor:
    """x[i - r] + 2 x[i] + x[i + r] along `dim`, of at least 2 r samples."""
    n = x.shape[dim]

    def part(t: Tensor, start: int, length: int) -> Tensor:
        return t.narrow(dim, start, length)

    torch.add(part(x, 0, 1), part(x, r, r), out=part(out, 0, r))
    torch.add(part(x, 0, n - 2 * r), part(x, 2 * r, n - 2 * r), out=part(out, r, n - 2 * r))
    torch.add(part(x, n - 2 * r, r), part(x, n - 1, 1), out=part(out, n - r, r))
    return out.add_(x, alpha=2)
