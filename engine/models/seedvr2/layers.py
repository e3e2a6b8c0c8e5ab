"""Parts that both transformers share: the two streams' weights, norm and modulation, feed-forward, time embedding."""

import math
from typing import Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.layers import gelu_, linear_float32

EPS = 1e-5
_TIMES = 256  # sines and cosines of the timestep

M = TypeVar("M", bound=nn.Module)


class Streams(nn.ModuleDict, Generic[M]):
    """A module for the video tokens and one for the prompt's, published as `vid` and `txt`, or `all` for both."""

    @property
    def video(self) -> M:
        return cast(M, self["all" if "all" in self else "vid"])

    @property
    def text(self) -> M:
        return cast(M, self["all" if "all" in self else "txt"])


class Modulation(nn.Module):
    """Six vectors of D: shift, scale and gate around attention, then around the feed-forward."""

    _NAMES = tuple(f"{part}_{kind}" for part in ("attn", "mlp") for kind in ("shift", "scale", "gate"))
    folded: Tensor  # (2, 3, D)

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name in self._NAMES:
            self.register_parameter(name, nn.Parameter(torch.empty(dim)))

    def fold(self, time: Tensor, dtype: torch.dtype) -> None:
        """Add the time embedding (2, 3, D), float32, to the vectors, which then are no longer needed themselves."""
        own = torch.stack([self.get_parameter(name).float() for name in self._NAMES]).view(2, 3, -1)
        for name in self._NAMES:
            delattr(self, name)
        self.register_buffer("folded", (time + own).to(dtype), persistent=False)

    def attention(self) -> tuple[Tensor, ...]:
        """shift, scale, gate"""
        return self.folded[0].unbind()

    def feed_forward(self) -> tuple[Tensor, ...]:
        """shift, scale, gate"""
        return self.folded[1].unbind()


class SwiGLU(nn.Module):
    """arXiv:2002.05202. The two projections of the 3B's feed-forward share an input."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj_in_gate = nn.Linear(dim, hidden, bias=False)
        self.proj_in = nn.Linear(dim, hidden, bias=False)
        self.proj_out = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., D)
        h = F.silu(self.proj_in_gate(x), inplace=True)
        out: Tensor = self.proj_out(h.mul_(self.proj_in(x)))
        return out


class GeluMLP(nn.Module):
    """The 7B's feed-forward, with the tanh form of GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(dim, hidden)
        self.proj_out = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:  # (..., D) -> (..., D)
        out: Tensor = self.proj_out(gelu_(self.proj_in(x)))
        return out


class TimeEmbedding(nn.Module):
    """A timestep of 0 to 1000 -> the part of all modulations that depends on it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(_TIMES, dim)
        self.proj_hid = nn.Linear(dim, dim)
        self.proj_out = nn.Linear(dim, 6 * dim)

    def forward(self, timestep: float, device: torch.device) -> Tensor:  # -> (6 D,), float32
        half = _TIMES // 2
        angles = timestep * torch.exp(-math.log(10000) * torch.arange(half, device=device) / half)
        h = torch.cat((angles.sin(), angles.cos()))
        h = F.silu(linear_float32(self.proj_in, h))
        h = F.silu(linear_float32(self.proj_hid, h))
        return linear_float32(self.proj_out, h)


def by_part(embedding: Tensor) -> Tensor:
    """(6 D,) -> (2, 3, D): attention and feed-forward; shift, scale and gate."""
    return embedding.view(-1, 2, 3).permute(1, 2, 0)


def modulated(x: Tensor, shift: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """RMS(x) scaled and shifted, in `dtype`: (..., D) -> (..., D)."""
    return F.rms_norm(x, x.shape[-1:], scale, EPS).add_(shift).to(dtype)


def add_gated_(x: Tensor, gate: Tensor, change: Tensor) -> Tensor:
    """x + gate * change in place, in the dtype of x."""
    return x.addcmul_(change.to(x.dtype), gate)
