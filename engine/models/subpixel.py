"""Twice the size, on the grid of the small frames.

A 3x3 convolution over 2x2 patches that each small pixel became by something linear is a 2x2 convolution of the small
pixels for each of a patch's pixels: `fold` makes its kernels. A 2x2 kernel at the small pixel's corner (h, w) is what
patch pixel (0, 0) of small pixel (h, w) needs, and (1, 1) of (h - 1, w - 1): one grid of corners serves all.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Patches(nn.Module):
    """2x2 kernels to N parts of O channels, 4 parts to a patch: (B, I, H, W) -> (B, N O, H + 1, W + 1)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, kernels: Tensor, bias: Tensor, like: Tensor) -> None:
        """`kernels` (N, 2, 2, O, I) in float32 and `bias` (N O), both to be as `like` is."""
        super().__init__()
        weight = kernels.permute(0, 3, 1, 2, 4).to(like.dtype).contiguous()  # (N, O, 2, 2, I)
        self.register_buffer("weight", weight.flatten(0, 1).permute(0, 3, 1, 2), persistent=False)
        self.register_buffer("bias", bias.to(like), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=1)


def fold(w: Tensor, u: Tensor) -> Tensor:
    """W's 3x3 kernel (O, C, 3, 3) over the patches that u (2, 2, C, I) makes: kernels (4, 2, 2, O, I), rows first."""
    taps = w.permute(2, 3, 0, 1).contiguous()
    kernels = w.new_zeros(2, 2, 2, 2, w.shape[0], u.shape[-1])
    for x in range(2):
        for y in range(2):
            for row in range(3):
                for column in range(3):
                    (i, a), (j, b) = divmod(x + row + 1, 2), divmod(y + column + 1, 2)
                    kernels[x, y, i - x, j - y].addmm_(taps[row, column], u[a, b])
    return kernels.flatten(0, 1)


def spread(y: Tensor) -> Tensor:
    """Parts of patches on the grid of corners, (B, 4 C, H + 1, W + 1) -> the frame (B, C, 2 H, 2 W), channels last."""
    batch, channels, height, width = y.shape
    parts = y.view(batch, 2, 2, channels // 4, height, width)
    frame = y.new_empty(batch, height - 1, 2, width - 1, 2, channels // 4)
    for x in range(2):
        for z in range(2):
            corner = parts[:, x, z, :, x : x + height - 1, z : z + width - 1]
            frame[:, :, x, :, z] = corner.permute(0, 2, 3, 1)
    return frame.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)
