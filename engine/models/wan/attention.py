"""Wan2.1's two attentions: of the video's tokens to each other, and to the prompt and the first picture.

Tokens lie as (L, B, D), samples beside each other, so that any run of tokens of all samples is one piece of memory.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.wan.config import DiTConfig
from engine.models.wan.layers import RMSNorm
from engine.models.wan.rope import turned


class Keys(NamedTuple):
    """k and v (S, heads, head), and what is added to the logits of each key (1, 1, 1, S), float32, if anything."""

    k: Tensor
    v: Tensor
    bias: Tensor | None = None


class Projections(nn.Module):
    """What both kinds of attention have."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim), RMSNorm(dim)


class SelfAttention(Projections):
    """Of all tokens to all, whose positions turn queries and keys."""

    def project(self, x: Tensor, table: Tensor, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Normed tokens (L, B, D) and the table of their positions into q, k and v, (L, B, heads, head)."""
        q.copy_(turned(self.norm_q(self.q(x)), table))
        k.copy_(turned(self.norm_k(self.k(x)), table))
        v.flatten(-2).copy_(self.v(x))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Some tokens' q and all tokens' k and v -> (L, B, D) of the former."""
        q, k, v = (x.permute(1, 2, 0, 3) for x in (q, k, v))
        said = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3)
        out: Tensor = self.o(said.flatten(-2))
        return out


class CrossAttention(Projections):
    """With `image_dim` to the prompt and to the picture, separately, with the same queries; the results are added."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        dim = config.dim
        if config.image_dim is not None:
            self.k_img, self.v_img = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.norm_k_img = RMSNorm(dim)

    def text_keys(self, text: Tensor, zeros: int) -> Keys:
        """Of embedded rows (N + 1, D), the last of which stands for `zeros` equal ones, rows of zeros before."""
        k, v = self.norm_k(self.k(text)).to(text.dtype), self.v(text)
        return repeated_last(self._split(k), self._split(v), zeros)

    def image_keys(self, image: Tensor) -> Keys:
        """Of the embedded picture (S, D)."""
        k, v = self.norm_k_img(self.k_img(image)).to(image.dtype), self.v_img(image)
        return Keys(self._split(k), self._split(v))

    def forward(self, x: Tensor, contexts: Sequence[Sequence[Keys]]) -> Tensor:
        """Normed tokens (L, B, D) -> (L, B, D). One context for each sample: what all it attends to."""
        q = self._split(self.norm_q(self.q(x)).to(x.dtype))
        said = [_said(q[:, index], keys) for index, keys in enumerate(contexts)]
        out: Tensor = self.o(torch.stack(said, dim=1) if len(said) > 1 else said[0][:, None])
        return out

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1))


def repeated_last(k: Tensor, v: Tensor, times: int) -> Keys:
    """Keys and values (S, heads, head) as if the last were there `times` times; times = 0 leaves it out.

    Equal keys share one weight, so that one key whose logit is greater by ln(times) does what all of them do. The GPU's
    fastest kernels take no such addition, and there the keys are so few beside the tokens that they are repeated.
    """
    if times < 2:
        count = len(k) - 1 + times
        return Keys(k[:count], v[:count])
    if k.device.type == "cpu":
        bias = torch.zeros(1, 1, 1, len(k))
        bias[..., -1] = math.log(times)
        return Keys(k, v, bias)
    return Keys(*(torch.cat((x, x[-1:].expand(times - 1, -1, -1))) for x in (k, v)))


def _said(q: Tensor, contexts: Sequence[Keys]) -> Tensor:
    """q (L, heads, head) of one sample -> (L, D), the sum over all that it attends to."""
    first, *others = (_attend(q, keys) for keys in contexts)
    for other in others:
        first.add_(other)
    return first.flatten(-2)


def _attend(q: Tensor, keys: Keys) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, keys.k, keys.v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keys.bias).squeeze(0).transpose(0, 1)
