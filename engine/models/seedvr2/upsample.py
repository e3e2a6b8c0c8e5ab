"""Twice the size, with as many or twice as many frames, on the grid of the small frames.

Published: a 1x1 convolution U to 4 z C channels, whose 4 z parts interleave to 2x2 pixels of z frames, and a causal
3x3x3 convolution W over those. Both are linear, so `prepare` makes one convolution of them: every pixel of a 2x2 patch
sees 2x2 small pixels (instead of 3x3 large ones), and every one of two frames sees two small frames (instead of three
large ones): 2.3 times fewer products for z = 1, 3.5 times for z = 2.

U's bias is not there beyond the picture's border, where W sees zeros; so the bias of the whole differs along the rim.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.causal import STILL, Clip, Past, with_sums
from engine.models.pointwise import PointConv
from engine.models.seedvr2.causal import AfterCopies, CausalConv
from engine.models.subpixel import Patches, fold, spread


class RimmedPatches(Patches):
    """Patches of `taps` frames, whose bias differs along the picture's border.

    `rim` (N O, 3, 3) is what is added to the bias at the grid's corners, edges and (nothing) in the middle.
    """

    rim: Tensor

    def __init__(self, kernels: Tensor, bias: Tensor | None, like: Tensor) -> None:
        """`kernels` (N, 2, 2, O, taps, I + 1) in float32, the last of the inputs being the constant that U adds."""
        constant = kernels[..., -1].sum(4).permute(0, 3, 1, 2).flatten(0, 1)[:, None]
        rim = F.conv2d(constant.new_ones(1, 1, 2, 2), constant, padding=1)[0]
        if bias is not None:
            rim = rim + bias.float().repeat(len(kernels))[:, None, None]
        super().__init__(kernels[..., :-1].flatten(4), rim[:, 1, 1], like)
        self.register_buffer("rim", (rim - rim[:, 1:2, 1:2]).to(like), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        ends = (slice(0, 1), slice(1, -1), slice(-1, None))
        for row, rows in enumerate(ends):
            for column, columns in enumerate(ends):
                if (row, column) != (1, 1):
                    y[:, :, rows, columns] += self.rim[:, row, column, None, None]
        return y

    def of_change(self, x: Tensor) -> Tensor:
        """What a change `x` of the latest frame changes: no bias."""
        return F.conv2d(x, self.weight[:, -x.shape[1] :], padding=1)


class Upsampler(AfterCopies):
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
        self.kernels = nn.ModuleList(RimmedPatches(kernel, bias, like) for kernel in kernels)
        del self.upscale_conv, self.conv

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        answers = super().forward(frames, clip, last)
        return [spread(answers.pop(0)) for _ in range(len(answers))]

    def tap(self, kernel: int, x: Tensor) -> Tensor:
        patches = cast(RimmedPatches, self.kernels[kernel])
        return patches(x) if kernel == STILL else patches.of_change(x)


class DoublingUpsampler(nn.Module):
    """Every frame (B, C, H, W) -> two (B, C, 2 H, 2 W), but for the clip's first frame, which stays one."""

    still: RimmedPatches
    moving: RimmedPatches
    turn: RimmedPatches

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
        self.still = RimmedPatches((w0 + w1 + w2)[..., None, :], bias, like)
        self.moving = RimmedPatches(torch.stack((torch.cat((w0 + v1, v0)), torch.cat((w2, w1 + v2))), 4), bias, like)
        self.turn = RimmedPatches((v2 - w2)[..., None, :], None, like)
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
