"""Twice the size, with as many or twice as many frames, on the grid of the small frames.

Published: a 1x1 convolution U to 4 z C channels, whose 4 z parts interleave to 2x2 pixels of z frames, and a causal
3x3x3 convolution W over those. Both are linear, so `prepare` makes one convolution of them: every pixel of a 2x2 patch
sees 2x2 small pixels (instead of 3x3 large ones), and every one of two frames sees two small frames (instead of three
large ones): 2.3 times fewer products for z = 1, 3.5 times for z = 2. A 2x2 kernel at the small pixel's corner (h, w)
is what patch pixel (0, 0) of small pixel (h, w) needs, and (1, 1) of (h - 1, w - 1): one grid of corners serves all.

U's bias is not there beyond the picture's border, where W sees zeros; so the bias of the whole differs along the rim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.seedvr2.blocks import PointConv
from engine.models.seedvr2.causal import CausalConv, Clip, Past


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
        constant = kernels[..., -1].sum(4).permute(0, 3, 1, 2).flatten(0, 1)[:, None]
        rim = F.conv2d(constant.new_ones(1, 1, 2, 2), constant, padding=1)[0]
        if bias is not None:
            rim = rim + bias.float().repeat(len(kernels))[:, None, None]
        weight = weight.flatten(4).flatten(0, 1).permute(0, 3, 1, 2)
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
        """What a change `x` of the latest frames changes: no bias."""
        return F.conv2d(x, self.weight[:, -x.shape[1] :], padding=1)


class Upsampler(nn.Module):
    """`frames` 2 doubles them too, but for the clip's first frame, which stays one."""

    still: Patches
    moving: Patches
    turn: Patches

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.upscale_conv = PointConv(channels, 4 * frames * channels)
        self.conv = CausalConv(channels, channels)

    def prepare(self) -> None:
        """Fold the two published convolutions into the kernels that `forward` uses, and drop them."""
        like, bias = self.conv.weight.detach(), self.conv.bias.detach()
        up = torch.cat((self.upscale_conv.weight.flatten(1), self.upscale_conv.bias[:, None]), 1).detach().float()
        parts = up.view(2, 2, self.frames, -1, up.shape[1]).unbind(2)  # z of (2, 2, C, I + 1)
        first = w0, w1, w2 = [fold(tap, parts[0]) for tap in like.float().unbind(2)]
        self.still = Patches((w0 + w1 + w2)[..., None, :], bias, like)
        moving = torch.stack(first, 4)
        if self.frames == 2:
            v0, v1, v2 = [fold(tap, parts[1]) for tap in like.float().unbind(2)]
            moving = torch.stack((torch.cat((w0 + v1, v0)), torch.cat((w2, w1 + v2))), 4)
            self.turn = Patches((v2 - w2)[..., None, :], None, like)
        self.moving = Patches(moving, bias, like)
        del self.upscale_conv, self.conv

    def forward(self, x: Tensor, clip: Clip, last: bool) -> list[Tensor]:  # (B, C, H, W) -> z of (B, C, 2 H, 2 W)
        past = clip.past.pop(self, None) or Past([])
        y = self.answer(past, x)
        if not last:
            clip.past[self] = self.kept(past, x, y, clip.thrifty)
        return [spread(part) for part in y.chunk(self.frames if past.frames else 1, 1)]

    def kept(self, past: Past, x: Tensor, answer: Tensor, thrifty: bool) -> Past:
        if not past.frames:
            return Past([x], answer)
        if self.frames == 2:
            return Past([x])
        return Past([past.frames[-1], x], past.first_answer if len(past.frames) == 1 and not thrifty else None)

    def answer(self, past: Past, x: Tensor) -> Tensor:
        seen, first = past.frames, past.first_answer
        if not seen:
            return self.still(x)  # type: ignore[no-any-return]
        if first is None:
            return self.moving(torch.cat((*seen, x), 1))  # type: ignore[no-any-return]
        change = self.moving.of_change(torch.cat([frame - seen[0] for frame in (*seen[1:], x)], 1))
        if self.frames == 1:
            return change.add_(first)
        return change.add_(torch.cat((first, first + self.turn(seen[0])), 1))


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
