"""Attention inside windows, each of which also sees the whole prompt. SeedVR, arXiv:2501.01320, section 3.1."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.seedvr2.config import HEAD, DiTConfig
from engine.models.seedvr2.layers import EPS, Streams
from engine.models.seedvr2.layout import Run
from engine.models.seedvr2.rope import rotate_, text_table, video_table


class Prompt(NamedTuple):
    """A layer's view of the prompt, of length T, for B clips. q (B, T, H, d); kv (B, T, 2, H, d)."""

    q: Tensor
    kv: Tensor


class HeadNorm(nn.Module):
    """Holds the scale of a norm over a head's values, which `WindowAttention` applies to queries and keys at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(HEAD))


class WindowAttention(nn.Module):
    """H heads of width d = 128. `shared` weights serve both streams."""

    def __init__(self, config: DiTConfig, shared: bool) -> None:
        super().__init__()
        self.config = config
        dim, streams = config.dim, ("all",) if shared else ("vid", "txt")
        self.proj_qkv = Streams[nn.Module]({name: nn.Linear(dim, 3 * dim, bias=False) for name in streams})
        self.proj_out = Streams[nn.Module]({name: nn.Linear(dim, dim) for name in streams})
        self.norm_q = Streams[HeadNorm]({name: HeadNorm() for name in streams})
        self.norm_k = Streams[HeadNorm]({name: HeadNorm() for name in streams})

    def prompt(self, y: Tensor) -> Prompt:
        """Of the normed prompt (B, T, D)."""
        qkv = self._qkv(self.proj_qkv.text, y)
        qk = self._normed(qkv[..., :2, :, :], self.norm_q.text, self.norm_k.text)
        table = text_table(self.config.kind, y.shape[1], y.device)
        if table is not None:
            rotate_(qk, table)
        return Prompt(
            qk[..., 0, :, :].to(y.dtype), torch.stack((qk[..., 1, :, :].to(y.dtype), qkv[..., 2, :, :]), dim=-3)
        )

    def forward(self, x: Tensor, prompt: Prompt, runs: Sequence[Run], mean: Tensor | None) -> Tensor:
        """Of the normed video tokens (M, D) of some runs, (M, D). What their windows say to the prompt is added to
        `mean` (B, T, H, d), float32, if there is one."""
        qkv = self._qkv(self.proj_qkv.video, x)
        qk, v = self._normed(qkv[:, :2], self.norm_q.video, self.norm_k.video), qkv[:, 2]
        sizes = [run.tokens for run in runs]
        pieces = zip(runs, qk.split_with_sizes(sizes), v.split_with_sizes(sizes), strict=True)
        parts = [self._windows(run, qk, v, prompt, mean) for run, qk, v in pieces]
        del qk, qkv, v
        out: Tensor = self.proj_out.video(torch.cat(parts) if len(parts) > 1 else parts[0])
        return out

    def _windows(self, run: Run, qk: Tensor, v: Tensor, prompt: Prompt, mean: Tensor | None) -> Tensor:
        """qk (M, 2, H, d), float32, not yet turned, and v (M, H, d) of one run -> (M, D)."""
        windows, length, text = (run.clips, run.windows), math.prod(run.shape), prompt.q.shape[1]
        qk, v = torch.unflatten(qk, 0, (*windows, length)), torch.unflatten(v, 0, (*windows, length))
        rotate_(qk, video_table(self.config.kind, run.shape, text, v.device))
        kv = v.new_empty(*windows, length + text, 2, *v.shape[-2:])
        kv[:, :, :length, 0] = qk[..., 1, :, :]
        kv[:, :, :length, 1] = v
        clips = slice(run.clip, run.clip + run.clips)
        kv[:, :, length:] = prompt.kv[clips, None]
        k, v = kv.flatten(0, 1).unbind(-3)
        if mean is not None:
            said = _attend(prompt.q[clips, None].expand(-1, run.windows, -1, -1, -1).flatten(0, 1), k, v)
            mean[clips] += torch.unflatten(said, 0, windows).sum(1, dtype=torch.float32)
        return _attend(qk[..., 0, :, :].to(v.dtype).flatten(0, 1), k, v).reshape(run.tokens, -1)

    def _qkv(self, linear: nn.Module, x: Tensor) -> Tensor:  # (..., D) -> (..., 3, H, d)
        out: Tensor = linear(x)
        return torch.unflatten(out, -1, (3, -1, HEAD))

    def _normed(self, qk: Tensor, norm_q: HeadNorm, norm_k: HeadNorm) -> Tensor:
        """Queries and keys (..., 2, H, d) over the root of their mean square, times each one's scale, in float32."""
        scale = torch.stack((norm_q.weight, norm_k.weight)).float()
        square = torch.linalg.vector_norm(qk, dim=-1, keepdim=True, dtype=torch.float32).square_()
        return torch.mul(qk, square.div_(HEAD).add_(EPS).rsqrt_()).mul_(scale[:, None])


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(N, L, H, d), (N, S, H, d) twice -> (N, L, H, d), which the kernels lay out so that heads join without a copy."""
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
