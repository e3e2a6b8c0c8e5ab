"""The layers of Wan2.1's video autoencoder: frames (B, C, H, W) go in, and those come out that they complete.

Parameters have the published names; `prepare` brings them into the form that the layers use, once.
"""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.causal import CausalConv, Clip, Past
from engine.models.pointwise import PointConv, activated
from engine.models.subpixel import Patches, fold, spread

TINY = 1e-12  # what a length is taken to be at least


class RMSNorm(nn.Module):
    """sqrt(C) x / |x| gamma over the channels of each place, with lengths in float32; gamma is (C, 1, ...)."""

    def __init__(self, channels: int, dimensions: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels, *(1,) * dimensions))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return self.by_rows(x)
        length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        scale = length.clamp_min_(TINY).reciprocal_().mul_(math.sqrt(x.shape[1])).to(x.dtype)
        return (x * scale).mul_(self.gamma.flatten()[:, None, None])

    def by_rows(self, x: Tensor) -> Tensor:
        """The same for CUDA, which has one kernel for it."""
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)  # a view, (B, H W, C)
        return as_frame(F.rms_norm(rows, rows.shape[2:], self.gamma.flatten(), TINY**2), x)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.ModuleDict(
            {
                "0": RMSNorm(inputs),
                "2": CausalConv(inputs, outputs),
                "3": RMSNorm(outputs),
                "6": CausalConv(outputs, outputs),
            }
        )
        self.shortcut = PointConv(inputs, outputs) if inputs != outputs else None

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        norm1, conv1, norm2, conv2 = self.residual.values()
        h = conv1(activated(norm1, [*frames]), clip, last)
        h = conv2(activated(norm2, h), clip, last)
        return [y.add_(x if self.shortcut is None else self.shortcut(x)) for x, y in zip(frames, h, strict=True)]


class Attention(nn.Module):
    """One head as wide as the channels, over all places of a frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels, 2)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        return [self.attended(x) for x in frames]

    def attended(self, x: Tensor) -> Tensor:
        rows = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)[:, None]  # (B, 1, H W, C)
        q, k, v = F.linear(rows, self.to_qkv.weight.flatten(1), self.to_qkv.bias).chunk(3, -1)
        rows = F.scaled_dot_product_attention(q, k, v)[:, 0]
        rows = F.linear(rows, self.proj.weight.flatten(1), self.proj.bias)
        return as_frame(rows, x).add_(x)


class TimeConv(nn.Module):
    """One or two frames from the latest three, a place at a time: published as (n C, C, 3, 1, 1)."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.weight = nn.Parameter(torch.empty(frames * channels, channels, 3, 1, 1))
        self.bias = nn.Parameter(torch.empty(frames * channels))

    def prepare(self) -> None:
        weight = self.weight.detach().transpose(1, 2).flatten(1, 2).contiguous()  # (n C, 3 C, 1, 1)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, seen: list[Tensor]) -> list[Tensor]:
        """`seen`: three frames at most, the latest last. Before them there are zeros."""
        x = torch.cat(seen, 1)
        weights = self.weight[:, -x.shape[1] :].chunk(self.frames)
        return [F.conv2d(x, w, b) for w, b in zip(weights, self.bias.chunk(self.frames), strict=True)]


class Downsample(nn.Module):
    """Half the size, zeros at the right and below only; and with `temporal` half the frames.

    A clip's first frame is a frame of the result by itself; all others complete one by twos.
    """

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels, 3, stride=2)})
        self.time_conv = TimeConv(channels, 1) if temporal else None

    def prepare(self) -> None:
        conv = cast(nn.Conv2d, self.resample["1"])
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        conv.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        halves = [self.resample["1"](F.pad(x, (0, 1, 0, 1))) for x in frames]
        if self.time_conv is None:
            return halves
        past = clip.past.pop(self, None)
        if not last:
            clip.past[self] = Past(halves[-1:])
        return halves if past is None else self.time_conv([*past.frames, *halves])


class Upsample(nn.Module):
    """Twice the size with half the channels, by a 3x3 convolution of doubled pixels; with `temporal` also two frames
    for each but the clip's first, which the others do not see."""

    patches: Patches

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleDict({"1": nn.Conv2d(channels, channels // 2, 3)})
        self.time_conv = TimeConv(channels, 2) if temporal else None

    def prepare(self) -> None:
        """Fold the doubling into the convolution: 2x2 small pixels instead of 3x3 large ones, 2.25 times fewer."""
        weight, bias = (parameter.detach() for parameter in self.resample["1"].parameters())
        doubling = torch.eye(weight.shape[1], device=weight.device).expand(2, 2, -1, -1)
        self.patches = Patches(fold(weight.float(), doubling), bias.repeat(4), weight)
        del self.resample

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        if self.time_conv is not None:
            frames = [y for x in frames for y in self.doubled(x, self.time_conv, clip)]
            if last:
                del clip.past[self]
        return [spread(self.patches(frames.pop(0))) for _ in range(len(frames))]

    def doubled(self, x: Tensor, time_conv: TimeConv, clip: Clip) -> list[Tensor]:
        past = clip.past.pop(self, None)
        seen = [] if past is None else [*past.frames[-2:], x]
        clip.past[self] = Past(seen[-2:])
        return [x] if past is None else time_conv(seen)


class Head(nn.ModuleDict):
    """The last activation and convolution of either half."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__({"0": RMSNorm(inputs), "2": CausalConv(inputs, outputs)})

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        norm, conv = self.values()
        return conv(activated(norm, frames), clip, last)  # type: ignore[no-any-return]


def as_frame(rows: Tensor, like: Tensor) -> Tensor:
    """Rows of channels (B, H W, C) as the frame (B, C, H, W) that they are, channels last."""
    return rows.view(len(rows), *like.shape[2:], -1).permute(0, 3, 1, 2)
