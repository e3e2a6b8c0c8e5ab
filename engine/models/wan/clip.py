"""CLIP's vision transformer up to its last layer but one, whose output says to Wan2.1 what is in a picture.

CLIP, arXiv:2103.00020; the weights are OpenCLIP's ViT-H/14 with an XLM-RoBERTa. The last layer, the norm after it and
the head are not built, because nobody reads what comes of them. Names in the state dict are those of Wan2.1's own file
without their prefix, but that queries, keys and values have a projection each.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE, PATCH = 224, 14  # pixels of a picture's side, and of a token's
TOKENS = (SIZE // PATCH) ** 2 + 1  # one for the whole picture, then one for each patch
EPS = 1e-5
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the pictures that CLIP was trained with, in [0, 1]
_SPREAD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class CLIPConfig:
    """layers: those that are evaluated, one less than were trained."""

    dim: int
    heads: int
    hidden: int
    layers: int

    def __post_init__(self) -> None:
        if min(self.dim, self.heads, self.hidden, self.layers) < 1 or self.dim % self.heads:
            raise ValueError(f"a transformer has at least one of each, and heads of one width: {self}")


VIT_H = CLIPConfig(dim=1280, heads=16, hidden=5120, layers=31)


def clip_pixels(image: Tensor) -> Tensor:
    """A picture (B, 3, H, W) in [-1, 1], of any size and shape, as CLIP takes it: (B, 3, 224, 224) in float32.

    Upstream's way (wan/modules/clip.py): bicubic, not antialiased, whatever the aspect, neither clamped nor rounded.
    Beside a picture in float32 nothing of its size is made.
    """
    small = F.interpolate(image.float(), (SIZE, SIZE), mode="bicubic", align_corners=False)
    mean, spread = (small.new_tensor(values)[:, None, None] for values in (_MEAN, _SPREAD))
    return small.mul_(0.5).add_(0.5).sub_(mean).div_(spread)


class Attention(nn.Module):
    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.to_q = nn.Linear(config.dim, config.dim)
        self.to_k = nn.Linear(config.dim, config.dim)
        self.to_v = nn.Linear(config.dim, config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, L, D) -> (B, L, D)
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.to_q, self.to_k, self.to_v)
        )
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))
        return out


class Block(nn.Module):
    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, EPS)
        self.mlp = nn.Sequential(nn.Linear(config.dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.dim))

    def forward(self, x: Tensor) -> Tensor:  # (B, L, D) -> (B, L, D)
        x = x + self.attn(self.norm1(x))
        out: Tensor = x.add_(self.mlp(self.norm2(x)))
        return out


class CLIPVision(nn.Module):
    """The part that Wan2.1 reads."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_embedding = nn.Parameter(torch.empty(1, 1, config.dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, TOKENS, config.dim))
        self.patch_embedding = nn.Conv2d(3, config.dim, PATCH, PATCH, bias=False)
        self.pre_norm = nn.LayerNorm(config.dim, EPS)
        self.transformer = nn.ModuleList(Block(config) for _ in range(config.layers))

    @property
    def layers(self) -> list[Block]:
        return cast("list[Block]", list(self.transformer))

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.cls_embedding.dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """Of `clip_pixels`, (B, 3, 224, 224) -> features (B, 257, D), in the network's dtype."""
        patches = self.patch_embedding(pixels.to(self.dtype)).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_embedding.expand(patches.shape[0], -1, -1), patches), dim=1)
        x = self.pre_norm(x.add_(self.pos_embedding))
        for block in self.layers:
            x = block(x)
        features: Tensor = x
        return features
