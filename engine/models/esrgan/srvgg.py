"""The compact Real-ESRGAN network: a chain of 3x3 convolutions, all at the input's size, and one pixel shuffle.

Real-ESRGAN, arXiv:2107.10833; published as SRVGGNetCompact. Names in the state dict are the published ones.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class SRVGGConfig:
    """`convs` counts the inner convolutions, without the first and the last, as the published name does."""

    feat: int = 64
    convs: int = 16
    scale: int = 4
    colours: int = 3

    def __post_init__(self) -> None:
        if min(self.feat, self.convs, self.scale, self.colours) < 1:
            raise ValueError(f"every size of a compact network is at least 1: {self}")

    @property
    def radius(self) -> int:
        """Pixels of the input on each side that an output pixel depends on: one for each convolution."""
        return self.convs + 2

    def bytes_per_pixel(self, itemsize: int) -> float:
        """Alive at once for each pixel of the input, the output aside: a layer's two sides, or the output's parts."""
        return float(max(2 * self.feat * itemsize, (4 + itemsize) * self.colours * self.scale**2))


ANIMEVIDEO_V3 = SRVGGConfig(feat=64, convs=16, scale=4)
GENERAL_X4V3 = SRVGGConfig(feat=64, convs=32, scale=4)


class SRVGG(nn.Module):
    """Colours C, features D, scale s. The network adds detail to the nearest-neighbour enlargement of its input.

    The picture keeps its own dtype while the convolutions run in the weights': the detail is small, so a bfloat16
    network beneath a float32 picture loses far less than a bfloat16 picture would.
    """

    def __init__(self, config: SRVGGConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [_conv(config.colours, config.feat), nn.PReLU(config.feat)]
        for _ in range(config.convs):
            layers += [_conv(config.feat, config.feat), nn.PReLU(config.feat)]
        layers.append(_conv(config.feat, config.colours * config.scale**2))
        self.body = nn.Sequential(*layers)

    @property
    def dtype(self) -> torch.dtype:
        """What the convolutions compute in."""
        return next(self.parameters()).dtype

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, sH, sW), both in [0, 1], the latter not clamped
        scale = self.config.scale
        detail = F.pixel_shuffle(self.body(x.to(self.dtype)), scale)
        return detail + F.interpolate(x, scale_factor=scale, mode="nearest")


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
