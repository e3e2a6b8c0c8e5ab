"""What looks at one place of one frame (B, C, H, W) alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PointConv(nn.Module):
    """A 1x1 convolution, published as (O, I, 1, 1, 1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1, 1, 1))
        self.bias = nn.Parameter(torch.empty(outputs))

    def prepare(self) -> None:
        self.weight = nn.Parameter(self.weight.detach().squeeze(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias)


def activated(norm: nn.Module, frames: list[Tensor]) -> list[Tensor]:
    """The frames normalised and through SiLU. `frames` is used up."""
    return [F.silu(norm(frames.pop(0)), inplace=True) for _ in range(len(frames))]
