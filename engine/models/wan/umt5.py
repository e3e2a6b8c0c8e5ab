"""UMT5's encoder: a prompt's tokens to the features that the transformer attends to.

T5, arXiv:1910.10683, with the gated feed-forward of arXiv:2002.05202; of UniMax's variant, arXiv:2304.09151, comes that
every layer has a table of relative positions of its own. Names in the state dict are those of Wan2.1's own file. A
prompt is run at its true length, so that there is neither padding nor a mask.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.checks import Check, unchecked
from engine.models.layers import gelu_

BUCKETS = 32  # of relative positions, half of them for what comes before
EPS = 1e-6
# Where the next bucket begins: one for each distance up to 8, then eight to each factor of 16, whole numbers from
# 8 * 2**(j / 2) on. The paper's logarithm, truncated, gives the same, but for what a device rounds another way.
_BOUNDARIES = (*range(1, 8), *(math.isqrt(64 * 2**j - 1) + 1 for j in range(8)))


@dataclass(frozen=True, slots=True)
class UMT5Config:
    """vocab: rows of the embedding. inner: what all heads together are wide. hidden: of the feed-forward."""

    vocab: int
    dim: int
    inner: int
    heads: int
    hidden: int
    layers: int

    def __post_init__(self) -> None:
        if min(self.vocab, self.dim, self.inner, self.heads, self.hidden, self.layers) < 1 or self.inner % self.heads:
            raise ValueError(f"an encoder has at least one of each, and heads of one width: {self}")


UMT5_XXL = UMT5Config(vocab=256_384, dim=4096, inner=4096, heads=64, hidden=10_240, layers=24)


class Norm(nn.Module):
    """x over the root of its mean square, in float32, times a weight."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:  # (N, D) -> (N, D)
        return F.rms_norm(x, x.shape[-1:], self.weight, EPS)


class PositionTable(nn.Module):
    """What a layer adds to the logits of each head for each bucket of relative positions."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BUCKETS, heads)

    def forward(self, buckets: Tensor) -> Tensor:  # (N, N) -> (1, H, N, N)
        table = self.embedding.weight.t().contiguous()
        return table.index_select(1, buckets.flatten()).view(1, -1, *buckets.shape)


class Attention(nn.Module):
    """Every token sees every other. The logits are not scaled by the heads' width."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.q = nn.Linear(config.dim, config.inner, bias=False)
        self.k = nn.Linear(config.dim, config.inner, bias=False)
        self.v = nn.Linear(config.dim, config.inner, bias=False)
        self.o = nn.Linear(config.inner, config.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:  # (N, D), (1, H, N, N) -> (N, D)
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(0, 1)[None] for linear in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        out: Tensor = self.o(attended[0].transpose(0, 1).flatten(-2))
        return out


class FeedForward(nn.Module):
    """The gate is through GELU in its tanh form."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.gate = nn.ModuleList([nn.Linear(config.dim, config.hidden, bias=False)])
        self.fc1 = nn.Linear(config.dim, config.hidden, bias=False)
        self.fc2 = nn.Linear(config.hidden, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (N, D) -> (N, D)
        h = gelu_(self.gate[0](x)).mul_(self.fc1(x))
        out: Tensor = self.fc2(h)
        return out


class Block(nn.Module):
    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.norm1 = Norm(config.dim)
        self.attn = Attention(config)
        self.norm2 = Norm(config.dim)
        self.ffn = FeedForward(config)
        self.pos_embedding = PositionTable(config.heads)

    def forward(self, x: Tensor, buckets: Tensor) -> None:
        """Change x (N, D) in place."""
        x.add_(self.attn(self.norm1(x), self.pos_embedding(buckets)))
        x.add_(self.ffn(self.norm2(x)))


class UMT5(nn.Module):
    """The encoder without a decoder."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config.dim)

    @property
    def layers(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def forward(self, ids: Tensor, check: Check = unchecked) -> Tensor:
        """Tokens (N,) of one prompt -> features (N, D), in the dtype of the weights.

        `check` is called before each layer and may raise.
        """
        x: Tensor = self.token_embedding(ids)
        buckets = relative_buckets(ids.shape[0], ids.device)
        for block in self.layers:
            check()
            block(x, buckets)
        out: Tensor = self.norm(x)
        return out


def relative_buckets(length: int, device: torch.device) -> Tensor:
    """The bucket of each key as each query sees it, (N, N): the later half of the buckets is for later keys."""
    place = torch.arange(length, device=device)
    distance = place - place[:, None]
    boundaries = torch.tensor(_BOUNDARIES, device=device)
    return torch.bucketize(distance.abs(), boundaries, right=True) + (distance > 0) * (BUCKETS // 2)
