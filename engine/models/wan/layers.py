"""What stands around the blocks of Wan2.1's transformer: patches, timestep, prompt, picture and head; its norms.

All of it is computed in float32, whatever the weights are stored in.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.layers import gelu_, linear_float32
from engine.models.wan.config import EPS, PATCH, DiTConfig

_EPS_IMAGE = 1e-5


class Gelu(nn.Module):
    """The tanh form, in place."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu_(x)


class LayerNorm(nn.Module):
    """(..., D), float32 -> the same."""

    def __init__(self, dim: int, eps: float = EPS) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(dim)), nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Over the full width, all heads together: (..., D) -> (..., D), float32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, EPS)


class PatchEmbedding(nn.Module):
    """2 x 2 places of all channels are one token. Published as a convolution, (D, C, 1, 2, 2)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.dim, config.inputs, 1, PATCH, PATCH))
        self.bias = nn.Parameter(torch.empty(config.dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, h, w) -> (L, B, D); tokens by frame, row and column."""
        patches = torch.unflatten(torch.unflatten(x.float(), 4, (-1, PATCH)), 3, (-1, PATCH)).permute(
            2, 3, 5, 0, 1, 4, 6
        )
        weight = self.weight.flatten(1)
        return F.linear(patches.reshape(-1, len(x), weight.shape[1]), weight, self.bias)


class TimeEmbedding(nn.Sequential):
    """Timesteps of 0 to 1000, (S,) -> (S, D)."""

    pairs: int  # of a sine and a cosine

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(nn.Linear(config.times, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim))
        self.pairs = config.times // 2

    def forward(self, timestep: Tensor) -> Tensor:
        steps = torch.arange(self.pairs, dtype=torch.float64, device=timestep.device)
        angles = timestep.double()[:, None] * 10000.0 ** (-steps / self.pairs)
        waves = torch.cat((angles.cos(), angles.sin()), dim=1)
        return linear_float32(self[2], F.silu(linear_float32(self[0], waves)))


class TextEmbedding(nn.Sequential):
    """(N, text_dim) -> (N, D)"""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(nn.Linear(config.text_dim, config.dim), Gelu(), nn.Linear(config.dim, config.dim))

    def forward(self, text: Tensor) -> Tensor:
        return linear_float32(self[2], gelu_(linear_float32(self[0], text)))


class ImageEmbedding(nn.Module):
    """CLIP's features of a picture (S, image_dim) -> (S, D)"""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        first, last = LayerNorm(width, _EPS_IMAGE), LayerNorm(dim, _EPS_IMAGE)
        self.proj = nn.Sequential(first, nn.Linear(width, width), nn.GELU(), nn.Linear(width, dim), last)

    def forward(self, image: Tensor) -> Tensor:
        first, linear_in, gelu, linear_out, last = self.proj
        out: Tensor = last(linear_float32(linear_out, gelu(linear_float32(linear_in, first(image.float())))))
        return out


class Head(nn.Module):
    """A token is 2 x 2 places of the velocity."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim))
        self.head = nn.Linear(config.dim, PATCH**2 * config.outputs)

    def vectors(self) -> Tensor:
        """(2, D): what of shift and 1 + scale is always the same."""
        vectors = self.modulation[0].float().clone()
        vectors[1] += 1
        return vectors

    def forward(self, x: Tensor, vectors: Tensor) -> Tensor:
        """Tokens (L, B, D), with shift and 1 + scale, (2, D) or (2, B, D) -> (L, B, 2 * 2 * outputs), channels last."""
        shift, scale = vectors.unbind()
        return linear_float32(self.head, modulated(x, shift, scale))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The normed x (L, B, D), float32, scaled and shifted by vectors (D,) or (B, D)."""
    if scale.dim() == 1:
        return F.layer_norm(x, x.shape[-1:], scale, shift, EPS)
    return F.layer_norm(x, x.shape[-1:], eps=EPS).mul_(scale).add_(shift)


def unpatched(tokens: Tensor, size: tuple[int, int, int]) -> Tensor:
    """(L, B, 2 * 2 * C) of so many frames, rows and columns of tokens -> (B, C, T, h, w)"""
    patches = torch.unflatten(torch.unflatten(tokens, 2, (PATCH, PATCH, -1)), 0, size)
    return patches.permute(3, 6, 0, 1, 4, 2, 5).flatten(5, 6).flatten(3, 4)
