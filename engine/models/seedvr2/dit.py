"""The two diffusion transformers: one step from noise and a degraded latent to the velocity between noise and clean.

SeedVR2, arXiv:2506.05301. Names in the state dict are the published ones, the rotary tables left out. Everything that
does not depend on the input is folded by `prepare`. The tokens stay in the order of a layer's windows and go through it
a chunk of whole windows at a time, so that activations of several times the model's width exist for one chunk only,
and on a processor stay in its cache.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.checks import Check, unchecked
from engine.models.layers import linear_float32
from engine.models.seedvr2.attention import WindowAttention
from engine.models.seedvr2.config import INPUTS, OUTPUTS, PATCH, DiTConfig
from engine.models.seedvr2.footprint import CHUNK_TOKENS, CHUNK_TOKENS_CPU
from engine.models.seedvr2.layers import (
    EPS,
    GeluMLP,
    Modulation,
    Streams,
    SwiGLU,
    TimeEmbedding,
    add_gated_,
    by_part,
    modulated,
)
from engine.models.seedvr2.layout import Layout, layouts


class PatchIn(nn.Module):
    """2 x 2 places of the latent are one token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(PATCH**2 * INPUTS, dim)

    def forward(self, x: Tensor, order: Tensor) -> Tensor:
        """(B, T, H, W, 33) -> (B * N, D), tokens in that order."""
        patches = torch.unflatten(torch.unflatten(x, 3, (-1, PATCH)), 2, (-1, PATCH)).transpose(3, 4)
        out: Tensor = self.proj(patches.reshape(-1, PATCH**2 * INPUTS).index_select(0, order))
        return out


class PatchOut(nn.Module):
    """A token is 2 x 2 places of the velocity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, PATCH**2 * OUTPUTS)

    def forward(self, parts: Iterable[Tensor], place: Tensor, size: torch.Size) -> Tensor:
        """(B * N, D) in parts, of which the n-th token in the grid's order is at place[n] -> (B, T, H, W, 16)."""
        b, t, h, w = size
        tokens = torch.cat([self._project(part) for part in parts]).index_select(0, place)
        patches = tokens.view(b, t, h // PATCH, w // PATCH, PATCH, PATCH, OUTPUTS)
        return patches.transpose(3, 4).reshape(b, t, h, w, OUTPUTS)

    def _project(self, x: Tensor) -> Tensor:
        """In float32 if x is: what the 7B ends with can be beyond float16."""
        if x.dtype == torch.float32:
            return linear_float32(self.proj, x)
        out: Tensor = self.proj(x)
        return out


class Block(nn.Module):
    """One layer. In the last one nothing comes of the prompt, and the 3B does not modulate it there either."""

    def __init__(self, config: DiTConfig, index: int) -> None:
        super().__init__()
        shared, self.last = index >= config.separate, index == config.layers - 1
        streams = ("all",) if shared else ("vid", "txt")
        mlp = SwiGLU if config.kind == "3b" else GeluMLP
        self.bare_prompt = self.last and config.kind == "3b"
        self.attn = WindowAttention(config, shared)
        self.mlp = Streams[SwiGLU | GeluMLP]({name: mlp(config.dim, config.hidden) for name in streams})
        self.ada = Streams[Modulation]({name: Modulation(config.dim) for name in streams})

    def forward(self, x: Tensor, y: Tensor, layout: Layout, dtype: torch.dtype) -> None:
        """Change x (B * N, D), in the layout's order, and the prompt y (B, T, D) in place; GEMMs run in `dtype`."""
        prompt = self.attn.prompt(self._normed_prompt(y, dtype))
        mean = None if self.last else torch.zeros_like(prompt.q, dtype=torch.float32)
        shift, scale, gate = self.ada.video.attention()
        for chunk in layout.chunks:
            part = x[chunk.start : chunk.start + chunk.tokens]
            add_gated_(part, gate, self.attn(modulated(part, shift, scale, dtype), prompt, chunk.runs, mean))
            self._feed_forward(part, self.ada.video, self.mlp.video, dtype)
        if mean is not None:
            said = mean.div_(layout.windows).flatten(-2).to(dtype)
            add_gated_(y, self.ada.text.attention()[2], self.attn.proj_out.text(said))
            self._feed_forward(y, self.ada.text, self.mlp.text, dtype)

    def fold(self, time: Tensor, dtype: torch.dtype) -> None:
        """Add the time embedding (2, 3, D) to the modulations, and free what the last layer has for nothing."""
        for ada in {self.ada.video, self.ada.text}:
            ada.fold(time, dtype)
        if self.last and "txt" in self.mlp:
            del self.mlp["txt"], self.attn.proj_out["txt"]

    def _normed_prompt(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        if self.bare_prompt:
            return F.rms_norm(y, y.shape[-1:], None, EPS).to(dtype)
        shift, scale, _ = self.ada.text.attention()
        return modulated(y, shift, scale, dtype)

    def _feed_forward(self, x: Tensor, ada: Modulation, mlp: nn.Module, dtype: torch.dtype) -> None:
        shift, scale, gate = ada.feed_forward()
        add_gated_(x, gate, mlp(modulated(x, shift, scale, dtype)))


class FinalModulation(nn.Module):
    """The 3B's shift and scale before its last projection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out_shift = nn.Parameter(torch.empty(dim))
        self.out_scale = nn.Parameter(torch.empty(dim))


class FinalNorm(nn.Module):
    """Holds the scale of the 3B's last norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))


class DiT(nn.Module):
    """What both have in common. B clips of T x H x W places, N tokens each; H and W are even."""

    prompt: Tensor  # (L, D)

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.vid_in = PatchIn(config.dim)
        self.txt_in = nn.Linear(config.text_dim, config.dim)
        self.emb_in = TimeEmbedding(config.dim)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.layers))
        self.vid_out = PatchOut(config.dim)

    @property
    def layers(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    @property
    def dtype(self) -> torch.dtype:
        """What GEMMs and attention compute in."""
        return self.layers[0].attn.norm_q.video.weight.dtype

    @property
    def residual_dtype(self) -> torch.dtype:
        """What the streams are kept in: the 7B's grow beyond what float16 holds."""
        return torch.float32 if self.dtype == torch.float16 else self.dtype

    @torch.no_grad()
    def prepare(self, text: Tensor, timestep: float = 1000.0) -> None:
        """Fold the timestep into all modulations and project the prompt (L, text_dim): once, with the weights in.

        The layers that this was for are freed, so that afterwards the state dict is no longer the published one.
        """
        time = self.emb_in(timestep, text.device)
        self.register_buffer("prompt", linear_float32(self.txt_in, text).to(self.residual_dtype), persistent=False)
        self.fold(by_part(time))
        del self.emb_in, self.txt_in

    def fold(self, time: Tensor) -> None:
        """Add the time embedding (2, 3, D) to every modulation."""
        for block in self.layers:
            block.fold(time, self.residual_dtype)

    def forward(self, x: Tensor, check: Check = unchecked) -> Tensor:
        """Noise, condition and mask (B, T, H, W, 33) -> velocity (B, T, H, W, 16), in the dtype of x.

        `check` is called before each layer and may raise.
        """
        b, t, h, w, _ = x.shape
        limit = CHUNK_TOKENS_CPU if x.device.type == "cpu" else CHUNK_TOKENS
        kinds = layouts(b, t, h // PATCH, w // PATCH, limit, x.device)
        layout = kinds[0]
        z = self.vid_in(x.to(self.dtype), layout.order).to(self.residual_dtype)
        y = self.prompt.repeat(b, 1, 1)
        for index, block in enumerate(self.layers):
            check()
            layout = kinds[index % 2]
            if index:
                z = z.index_select(0, layout.turn)
            block(z, y, layout, self.dtype)
        parts = (self.finished(part) for part in z.split_with_sizes([chunk.tokens for chunk in layout.chunks]))
        out: Tensor = self.vid_out(parts, layout.place, x.shape[:-1])
        return out.to(x.dtype)

    def finished(self, x: Tensor) -> Tensor:
        """A part of the stream (M, D) as the last projection takes it."""
        return x


class DiT3B(DiT):
    """SwiGLU, most layers shared by video and prompt, rotary positions for both, and a norm at the end."""

    final: Tensor  # (2, D): shift and scale

    def __init__(self, config: DiTConfig) -> None:
        assert config.kind == "3b"
        super().__init__(config)
        self.vid_out_norm = FinalNorm(config.dim)
        self.vid_out_ada = FinalModulation(config.dim)

    def fold(self, time: Tensor) -> None:
        super().fold(time)
        shift, scale, _ = time[0]  # the published weights expect that of attention here
        weight = self.vid_out_norm.weight.float()
        final = torch.stack((shift + self.vid_out_ada.out_shift, weight * (scale + self.vid_out_ada.out_scale)))
        self.register_buffer("final", final.to(self.residual_dtype), persistent=False)
        del self.vid_out_norm, self.vid_out_ada

    def finished(self, x: Tensor) -> Tensor:
        shift, scale = self.final
        return modulated(x, shift, scale, x.dtype)


class DiT7B(DiT):
    """GELU, no layer shared, rotary positions for the video alone, nothing at the end."""

    def __init__(self, config: DiTConfig) -> None:
        assert config.kind == "7b"
        super().__init__(config)


def build(config: DiTConfig) -> DiT3B | DiT7B:
    """The transformer of that size, on torch's current default device."""
    return DiT3B(config) if config.kind == "3b" else DiT7B(config)
