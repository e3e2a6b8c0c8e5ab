"""Twice the size, with as many or twice as many frames, on the grid of the small frames.

Published: a 1x1 convolution U to 4 z C channels, whose 4 z parts interleave to 2x2 pixels of z frames, and a causal
3x3x3 convolution W over those. Both are linear, so `prepare` makes one convolution of them: every pixel of a 2x2 patch
sees 2x2 small pixels (instead of 3x3 large ones), and every one of two frames sees two small frames (instead of three
large ones): 2.3 times fewer products for z = 1, 3.5 times for z = 2. A 2x2 kernel at the small pixel's corner (h, w)
is what patch pixel (0, 0) of small pixel (h, w) needs, and (1, 1) of (h - 1, w - 1): one grid of corners serves all.

U's bias is not there beyond the picture's border, where W sees zeros; so the bias of the whole differs along the rim.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.seedvr2.blocks import PointConv
from engine.models.seedvr2.causal import STILL, Causal, CausalConv, Clip, Past, with_sums


class Patches(nn.Module):
    """2x2 kernels to N parts of O channels, 4 parts to a patch: (B, I, H, W) -> (B, N O, H + 1, W + 1).

    `rim` (N O, 3, 3) is what is added to the bias at the grid's corners, edges and (nothing) in the middle.
    """

    weight: Tensor
    bias: Tensor
    rim: Tensor

    def __init__(self, kernels: Tensor, bias: Tensor | None, like: Tensor) -> None:
        """`kernels` (N, 2, 2, O, taps, I + 1) in float32, the last of the inputs being the constant that U adds."""
        super().__init__()
        weight = kernels[..., :-1].permute(0, 3, 1, 2, 4, 5).to(like.dtype).contiguous()  # (N, O, 2, 2, taps, I)
        weight = weight.flatten(4).flatten(0, 1).permute(0, 3, 1, 2)
        constant = kernels[..., -1].sum(4).permute(0, 3, 1, 2).flatten(0, 1)[:, None]
        rim = F.conv2d(constant.new_ones(1, 1, 2, 2), constant, padding=1)[0]
        if bias is not None:
            rim = rim + bias.float().repeat(len(kernels))[:, None, None]
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", rim[:, 1, 1].to(like), persistent=False)
        self.register_buffer("rim", (rim - rim[:, 1:2, 1:2]).to(like), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, padding=1)
        ends = (slice(0, 1), slice(1, -1), slice(-1, None))
        for row, rows in enumerate(ends):
            for column, columns in enumerate(ends):
                if (row, column) != (1, 1):
                    y[:, :, rows, columns] += self.rim[:, row, column, None, None]
        return y

    def of_change(self, x: Tensor) -> Tensor:
        """What a change `x` of the latest frame changes: no bias."""
        return F.conv2d(x, self.weight[:, -x.shape[1] :], padding=1)


class Upsampler(Causal):
    """Every frame (B, C, H, W) -> (B, C, 2 H, 2 W)."""

    kernels: nn.ModuleList

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upscale_conv = PointConv(channels, 4 * channels)
        self.conv = CausalConv(channels, channels)

    def prepare(self) -> None:
        """Fold the two published convolutions into the kernels that `tap` uses, and drop them."""
        like, bias = self.conv.weight.detach(), self.conv.bias.detach()
        (part,) = parts(self.upscale_conv, 1)
        kernels = with_sums([fold(tap, part) for tap in like.float().unbind(2)])[..., None, :]
        self.kernels = nn.ModuleList(Patches(kernel, bias, like) for kernel in kernels)
        del self.upscale_conv, self.conv

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        answers = super().forward(frames, clip, last)
        return [spread(answers.pop(0)) for _ in range(len(answers))]

    def tap(self, kernel: int, x: Tensor) -> Tensor:
        patches = cast(Patches, self.kernels[kernel])
        return patches(x) if kernel == STILL else patches.of_change(x)


class DoublingUpsampler(nn.Module):
    """Every frame (B, C, H, W) -> two (B, C, 2 H, 2 W), but for the clip's first frame, which stays one."""

    still: Patches
    moving: Patches
    turn: Patches

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upscale_conv = PointConv(channels, 8 * channels)
        self.conv = CausalConv(channels, channels)

    def prepare(self) -> None:
        """Fold the two published convolutions into the kernels that `answer` uses, and drop them."""
        like, bias = self.conv.weight.detach(), self.conv.bias.detach()
        first, second = parts(self.upscale_conv, 2)
        w0, w1, w2 = [fold(tap, first) for tap in like.float().unbind(2)]
        v0, v1, v2 = [fold(tap, second) for tap in like.float().unbind(2)]
        self.still = Patches((w0 + w1 + w2)[..., None, :], bias, like)
        self.moving = Patches(torch.stack((torch.cat((w0 + v1, v0)), torch.cat((w2, w1 + v2))), 4), bias, like)
        self.turn = Patches((v2 - w2)[..., None, :], None, like)
        del self.upscale_conv, self.conv

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        made = []
        for n, x in enumerate(frames):
            past = clip.past.pop(self, None)
            y = self.answer(past, x)
            if not last or n < len(frames) - 1:
                clip.past[self] = Past([x], None if past else y)
            made += [spread(part) for part in y.chunk(2 if past else 1, 1)]
        return made

    def answer(self, past: Past | None, x: Tensor) -> Tensor:
        if past is None:
            return self.still(x)  # type: ignore[no-any-return]
        (before,), first = past.frames, past.first_answer
        if first is None:
            return self.moving(torch.cat((before, x), 1))  # type: ignore[no-any-return]
        return self.moving.of_change(x - before).add_(torch.cat((first, first + self.turn(before)), 1))


def parts(up: PointConv, frames: int) -> Sequence[Tensor]:
    """What U makes each of the `frames` of: (2, 2, C, I + 1), rows first, the constant last."""
    weight = torch.cat((up.weight.flatten(1), up.bias[:, None]), 1).detach().float()
    return weight.view(2, 2, frames, -1, weight.shape[1]).unbind(2)


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
