"""The layers of SeedVR2's video autoencoder: frames (B, C, H, W) go in, and those come out that they complete."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.causal import Clip
from engine.models.pointwise import PointConv, activated
from engine.models.seedvr2.causal import CausalConv, StridedConv
from engine.models.seedvr2.norm import FrameNorm


class ResnetBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, inputs)
        self.conv1 = CausalConv(inputs, outputs)
        self.norm2 = FrameNorm(groups, outputs)
        self.conv2 = CausalConv(outputs, outputs)
        self.conv_shortcut = PointConv(inputs, outputs) if inputs != outputs else None

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        h = self.conv1(activated(self.norm1, [*frames]), clip, last)
        h = self.conv2(activated(self.norm2, h), clip, last)
        return [self.joined(x, y) for x, y in zip(frames, h, strict=True)]

    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y if self.conv_shortcut is None else self.conv_shortcut(x).add_(y)


class Attention(nn.Module):
    """One head as wide as the channels, over all places of a frame."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = FrameNorm(groups, channels)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        return [self.attended(x) for x in frames]

    def attended(self, x: Tensor) -> Tensor:
        z = self.group_norm(x).permute(0, 2, 3, 1).flatten(1, 2)[:, None]  # (B, 1, H W, C)
        z = F.scaled_dot_product_attention(self.to_q(z), self.to_k(z), self.to_v(z))
        z = self.to_out[0](z).view(x.shape[0], *x.shape[2:], -1)
        return x + z.permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class MidBlock(nn.Module):
    """A holder: the network walks through `layers` itself."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([Attention(channels, groups)])

    @property
    def layers(self) -> list[nn.Module]:
        return [self.resnets[0], self.attentions[0], self.resnets[1]]


class HalfSize(nn.Module):
    """The first downsampler: half the size, every frame. Zeros at the right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 1, 3, 3))
        self.bias = nn.Parameter(torch.empty(channels))

    def prepare(self) -> None:
        weight = self.weight.detach().squeeze(2).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        return [F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, stride=2) for x in frames]


class Downsampler(nn.Module):
    """Half the size, and with `temporal` half the frames: a clip's first, third, ... complete one."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.conv = StridedConv(channels, channels) if temporal else HalfSize(channels)

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        return self.conv(frames, clip, last)  # type: ignore[no-any-return]


class Output(nn.Module):
    """The last activation and convolution of either half, under whatever names the half gives them."""

    def __init__(self, norm: FrameNorm, conv: CausalConv) -> None:
        super().__init__()
        self.norm, self.conv = norm, conv

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        return self.conv(activated(self.norm, frames), clip, last)  # type: ignore[no-any-return]
