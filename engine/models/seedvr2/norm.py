"""Group normalisation of single frames with channels last."""

import torch
from torch import Tensor, nn

EPS = 1e-6


class FrameNorm(nn.GroupNorm):
    """(B, C, H, W) -> the same, in the same layout, with statistics in float32. Every frame has its own."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.device.type == "cpu" else self.without_relayout(x)

    def without_relayout(self, x: Tensor) -> Tensor:
        """The same for CUDA, whose own kernel turns the layout around and leaves it so: two reads, then one write."""
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).flatten(1, 2)  # a view, (B, H W, C)
        grouped, size = (batch, self.num_groups, -1), height * width * channels // self.num_groups
        mean = rows.sum(1, dtype=torch.float32).view(grouped).sum(-1) / size
        square = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32).square().view(grouped).sum(-1) / size
        spread = torch.rsqrt((square - mean.square()).clamp_min(0) + self.eps)
        repeat = channels // self.num_groups
        scale = spread.repeat_interleave(repeat, 1) * self.weight.float()
        shift = self.bias.float() - mean.repeat_interleave(repeat, 1) * scale
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None], out=torch.empty_like(x))
