"""Wan2.1's diffusion transformer: noisy latents -> the velocity from clean ones to noise.

Wan, arXiv:2503.20314; upstream wan/modules/model.py. Names in the state dict are the published ones. Tokens lie as
(L, B, D). What a token does alone is done a chunk of tokens at a time, from one norm to the end of the layer, so that
activations of several times the model's width exist for one chunk only, and on a processor stay in its cache. The
stream is kept in float32, whatever the products are computed in.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.checks import Check, unchecked
from engine.models.layers import linear_float32
from engine.models.onednn import BlockedLinear, block_linears, can_block
from engine.models.wan.attention import CrossAttention, Keys, SelfAttention
from engine.models.wan.config import PATCH, DiTConfig
from engine.models.wan.footprint import CHUNK_TOKENS, CHUNK_TOKENS_CPU
from engine.models.wan.layers import (
    Gelu,
    Head,
    ImageEmbedding,
    LayerNorm,
    PatchEmbedding,
    RMSNorm,
    TextEmbedding,
    TimeEmbedding,
    modulated,
    unpatched,
)
from engine.models.wan.rope import table

T = TypeVar("T")


class Context(NamedTuple):
    """What one sample attends to in each layer: the prompt, and in an i2v network the picture."""

    layers: tuple[tuple[Keys, ...], ...]


class Block(nn.Module):
    """One layer."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.empty(1, 6, config.dim))
        self.self_attn = SelfAttention(config)
        self.norm3 = LayerNorm(config.dim)
        self.cross_attn = CrossAttention(config)
        self.ffn = nn.Sequential(nn.Linear(config.dim, config.hidden), Gelu(), nn.Linear(config.hidden, config.dim))

    @property
    def dtype(self) -> torch.dtype:
        """What products and attention compute in."""
        return cast(Tensor, self.self_attn.q.bias).dtype

    def forward(self, work: Callable[..., T], *given: object) -> T:
        """One of the two things that a layer does, so that hooks which bring its weights surround either."""
        return work(self, *given)

    def block_linears(self) -> None:
        """Lay the weights out for a processor."""
        linear_in = self.ffn[0]
        if can_block(linear_in):
            self.ffn[0], self.ffn[1] = BlockedLinear(linear_in, gelu=True), nn.Identity()
        for module in (self.self_attn, self.cross_attn, self.ffn):
            block_linears(module)

    def keys(self, text: Tensor, zeros: int, image: Tensor | None) -> tuple[Keys, ...]:
        """What a sample attends to; see `CrossAttention`."""
        keys = self.cross_attn.text_keys(text, zeros)
        return (keys,) if image is None else (keys, self.cross_attn.image_keys(image))

    def step(self, x: Tensor, vectors: Tensor, table: Tensor, contexts: Sequence[Sequence[Keys]], chunk: int) -> Tensor:
        """The stream (L, B, D), float32, one layer on; it may be changed in place.

        vectors: (6, D), or (6, B, D), float32: shift, 1 + scale and gate around self attention, then around the
        feed-forward. table: of the positions. contexts: one for each sample; where there are more of them than samples
        in x, all begin with that one. chunk: tokens that are worked on at a time.
        """
        shift, scale, gate, *others = vectors.unbind()
        spans = _spans(len(x), len(contexts), chunk)
        q, k, v = x.new_empty(3, *x.shape[:2], self.self_attn.heads, table.shape[1] * 2, dtype=self.dtype)
        for span in spans:  # no name for the normed tokens: it would keep them until the end
            self.self_attn.project(
                modulated(x[span], shift, scale).to(self.dtype), table[span], q[span], k[span], v[span]
            )
        out = x if x.shape[1] == len(contexts) else x.new_empty(len(x), len(contexts), x.shape[2])
        for span in spans:
            part = x[span].addcmul_(self.self_attn(q[span], k, v), gate)
            if out is not x:
                part = out[span].copy_(part)
            self._alone(part, others, contexts)
        return out

    def _alone(self, x: Tensor, vectors: Sequence[Tensor], contexts: Sequence[Sequence[Keys]]) -> None:
        """Cross attention and feed-forward of some tokens (L, B, D), in place."""
        shift, scale, gate = vectors
        x.add_(self.cross_attn(self.norm3(x).to(self.dtype), contexts))
        x.addcmul_(self.ffn(modulated(x, shift, scale).to(self.dtype)), gate)


class WanDiT(nn.Module):
    """B samples of T x h x w places, L = T * h/2 * w/2 tokens; h and w are even.

    Give it its weights, then call `prepare`, `context` for each prompt, and the network for each step.
    """

    modulations: Tensor  # (layers, 6, D), 1 added to the scales

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = PatchEmbedding(config)
        self.text_embedding = TextEmbedding(config)
        self.time_embedding = TimeEmbedding(config)
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, 6 * config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)
        if config.image_dim is not None:
            self.img_emb = ImageEmbedding(config.image_dim, config.dim)

    @property
    def layers(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    @torch.no_grad()
    def prepare(self, device: torch.device | None = None) -> None:
        """Once, with the weights in: bring what is small to float32, and the layers' modulations together.

        device: where the network is going to work, if that is known; for a processor the layers' weights are laid out
        anew, and can then move nowhere else. Afterwards the state dict is no longer the published one.
        """
        for module in self.modules():
            if isinstance(module, LayerNorm | RMSNorm | PatchEmbedding):
                for name, value in list(module.named_parameters()):
                    setattr(module, name, nn.Parameter(value.float(), requires_grad=False))
        modulations = torch.stack([block.modulation[0].float() for block in self.layers])
        modulations[:, [1, 4]] += 1
        self.register_buffer("modulations", modulations, persistent=False)
        for block in self.layers:
            del block.modulation
            if device is not None and device.type == "cpu":
                block.block_linears()

    def context(self, text: Tensor, image: Tensor | None = None) -> Context:
        """Of a prompt's rows (N, text_dim), N <= text_len, and in an i2v network CLIP's features (S, image_dim)."""
        if (image is None) != (self.config.image_dim is None):
            raise ValueError("an i2v network wants a picture's features, and only that one does")
        zeros = self.config.text_len - len(text)
        if zeros < 0:
            raise ValueError(f"a prompt has at most {self.config.text_len} rows, not {len(text)}")
        dtype = self.layers[0].dtype
        rows = self.text_embedding(F.pad(text, (0, 0, 0, 1))).to(dtype)
        picture = None if image is None else self.img_emb(image).to(dtype)
        return Context(tuple(block(Block.keys, rows, zeros, picture) for block in self.layers))

    def forward(
        self,
        x: Tensor,
        timestep: float | Tensor,
        contexts: Sequence[Context],
        check: Check = unchecked,
    ) -> Tensor:
        """Latents (B, C, T, h, w) -> velocity (B, outputs, T, h, w), float32.

        timestep: 0 to 1000, one for all, or (B,). `check` is called before each layer and may raise. Where x is one
        sample expanded, and the timestep one for all, what the copies have in common is computed once.
        """
        once = x.stride(0) == 0 and not isinstance(timestep, Tensor)
        vectors, final = self._vectors(timestep, x.device)
        size = (x.shape[2], x.shape[3] // PATCH, x.shape[4] // PATCH)
        positions = table(self.config.head, size, x.device)
        chunk = CHUNK_TOKENS_CPU if x.device.type == "cpu" else CHUNK_TOKENS
        z = self.patch_embedding(x[:1] if once else x)
        for index, block in enumerate(self.layers):
            check()
            z = block(Block.step, z, vectors[index], positions, [context.layers[index] for context in contexts], chunk)
        return unpatched(torch.cat([self.head(z[span], final) for span in _spans(len(z), z.shape[1], chunk)]), size)

    def _vectors(self, timestep: float | Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Modulations of the layers (layers, 6, D) and of the head (2, D), or of each sample, (..., B, D)."""
        if isinstance(timestep, Tensor):
            steps = timestep.to(device)
        else:
            steps = torch.full((1,), timestep, dtype=torch.float64, device=device)
        time = self.time_embedding(steps)
        layers = torch.unflatten(linear_float32(self.time_projection[1], F.silu(time)), 1, (6, -1)).transpose(0, 1)
        own = self.head.vectors()
        if len(time) == 1:
            return self.modulations + layers[:, 0], own + time
        return self.modulations[:, :, None] + layers, own[:, None] + time


def _spans(length: int, samples: int, chunk: int) -> list[slice]:
    """Runs of each sample's tokens, of about `chunk` in all samples together."""
    step = max(1, chunk // samples)
    return [slice(start, start + step) for start in range(0, length, step)]
