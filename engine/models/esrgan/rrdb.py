"""The large Real-ESRGAN network: residual-in-residual dense blocks at one size, then nearest x2 steps.

ESRGAN, arXiv:1809.00219; Real-ESRGAN, arXiv:2107.10833; published as RRDBNet. Names in the state dict are the later
published ones; `names` turns the earlier ones into them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class RRDBConfig:
    """`steps` x2 enlargements after an `unshuffle` that folds the input's pixels into channels."""

    blocks: int = 23
    feat: int = 64
    grow: int = 32
    steps: int = 2
    unshuffle: int = 1
    colours: int = 3

    def __post_init__(self) -> None:
        if min(self.blocks, self.feat, self.grow, self.unshuffle, self.colours) < 1 or self.steps < 0:
            raise ValueError(f"every size of a dense network is at least 1: {self}")
        if 2**self.steps % self.unshuffle:
            raise ValueError(
                f"unshuffling by {self.unshuffle} before {self.steps} steps of x2 would shrink the picture"
            )

    @property
    def scale(self) -> int:
        return int(2**self.steps) // self.unshuffle

    def bytes_per_pixel(self, itemsize: int) -> float:
        """Alive at once for each pixel of the input, the output aside: in a dense block, or at the enlarged size."""
        dense = 3 * self.feat + 2 * (self.feat + 4 * self.grow)
        enlarged = 2.25 * self.feat * 4**self.steps
        return itemsize * float(max(dense, enlarged)) / self.unshuffle**2


X4PLUS = RRDBConfig(blocks=23)
X2PLUS = RRDBConfig(blocks=23, unshuffle=2)
X4PLUS_ANIME_6B = RRDBConfig(blocks=6)


class DenseBlock(nn.Module):
    """Five convolutions, each fed with all before it. D features, G grown by each of the first four."""

    def __init__(self, feat: int, grow: int) -> None:
        super().__init__()
        self.conv1 = _conv(feat, grow)
        self.conv2 = _conv(feat + grow, grow)
        self.conv3 = _conv(feat + 2 * grow, grow)
        self.conv4 = _conv(feat + 3 * grow, grow)
        self.conv5 = _conv(feat + 4 * grow, feat)

    def forward(self, x: Tensor) -> Tensor:  # (B, D, H, W) -> (B, D, H, W)
        h = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            h = torch.cat((h, _leaky(conv(h))), dim=1)
        return x.add(self.conv5(h), alpha=0.2)


class RRDB(nn.Module):
    """Three dense blocks in a row inside one more residual connection."""

    def __init__(self, feat: int, grow: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(feat, grow)
        self.rdb2 = DenseBlock(feat, grow)
        self.rdb3 = DenseBlock(feat, grow)

    def forward(self, x: Tensor) -> Tensor:  # (B, D, H, W) -> (B, D, H, W)
        return x.add(self.rdb3(self.rdb2(self.rdb1(x))), alpha=0.2)


class RRDBNet(nn.Module):
    """Colours C, unshuffle u, scale s = 2^steps / u. Height and width are multiples of u.

    Convolves in the weights' dtype and answers in the picture's.
    """

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config = config
        feat = config.feat
        self.conv_first = _conv(config.colours * config.unshuffle**2, feat)
        self.body = nn.Sequential(*(RRDB(feat, config.grow) for _ in range(config.blocks)))
        self.conv_body = _conv(feat, feat)
        for step in range(config.steps):
            self.add_module(f"conv_up{step + 1}", _conv(feat, feat))
        self.conv_hr = _conv(feat, feat)
        self.conv_last = _conv(feat, config.colours)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, sH, sW), both in [0, 1], the latter not clamped
        dtype = x.dtype
        h = self.conv_first(F.pixel_unshuffle(x.to(self.conv_first.weight.dtype), self.config.unshuffle))
        h = h + self.conv_body(self.body(h))
        for step in range(self.config.steps):
            conv = self.get_submodule(f"conv_up{step + 1}")
            h = _leaky(conv(F.interpolate(h, scale_factor=2.0, mode="nearest")))
        last: Tensor = self.conv_last(_leaky(self.conv_hr(h)))
        return last.to(dtype)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
