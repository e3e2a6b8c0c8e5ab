"""A picture through an enlarging network, tile by tile. Where a tile sees enough around itself, no seam exists."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from engine.spans import tiles


def enlarge_by_tiles(
    run: Callable[[Tensor], Tensor], x: Tensor, *, scale: int, tile: int, pad: int, multiple: int = 1
) -> Tensor:
    """(B, C, H, W) -> (B, C, sH, sW). `pad` pixels around a tile are computed and thrown away; 0 as `tile` is whole.

    Exact where `pad` covers the network's receptive field: 18 pixels for realesr-animevideov3, 34 for
    realesr-general-x4v3, one for each convolution. The dense networks see farther than any tile, and little of it.
    Sizes that are no multiple of `multiple` are mirrored to one, as published.
    """
    height, width = x.shape[-2:]
    x = _mirror_to_multiple(x, multiple)
    if not tile or tile >= max(x.shape[-2:]):
        return run(x)[..., : height * scale, : width * scale]
    tile = -(-tile // multiple) * multiple
    y = x.new_empty(*x.shape[:-2], x.shape[-2] * scale, x.shape[-1] * scale)
    for r, c in tiles(x.shape[-2], x.shape[-1], tile, pad, multiple):
        part = run(x[..., r.outer_start : r.outer_end, c.outer_start : c.outer_end])
        top, left = (r.start - r.outer_start) * scale, (c.start - c.outer_start) * scale
        rows, columns = (r.end - r.start) * scale, (c.end - c.start) * scale
        y[..., r.start * scale : r.end * scale, c.start * scale : c.end * scale] = part[
            ..., top : top + rows, left : left + columns
        ]
    return y[..., : height * scale, : width * scale]


def _mirror_to_multiple(x: Tensor, multiple: int) -> Tensor:
    height, width = x.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if not (below or right):
        return x
    mode = "reflect" if below < height and right < width else "replicate"  # one pixel has no mirror image
    return F.pad(x, (0, right, 0, below), mode=mode)
