"""SeedVR2's transformers stated plainly, the yardstick for ours: published names in, one clip at a time.

As research code has it: the time embedding repeated for every token, q, k and v gathered into the order of the windows,
the prompt's repeated for each window, everything joined by `cat`, one attention call per window in a Python loop,
gathered back. The 7B makes its indices and angles anew in every layer, the 3B once for each kind of layer.
"""

import math
from collections.abc import Mapping
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.seedvr2.config import HEAD, OUTPUTS, PATCH, DiTConfig
from engine.models.seedvr2.layers import EPS
from engine.models.seedvr2.windows import Size, pieces, window_size

Stream = Literal["vid", "txt"]


class Windows:
    """Indices and angles for a grid of tokens and a prompt of `text` tokens."""

    def __init__(self, kind: str, grid: Size, text: int, shifted: bool) -> None:
        places = torch.arange(math.prod(grid)).view(grid)
        axes = [pieces(n, k, shifted) for n, k in zip(grid, window_size(*grid), strict=True)]
        parts = [places[slice(*t), slice(*h), slice(*w)] for t, h, w in product(*axes)]
        self.lengths = [part.numel() for part in parts]
        self.gather = torch.cat([part.flatten() for part in parts])
        self.scatter = torch.argsort(self.gather)
        prompts = math.prod(grid) + torch.arange(len(parts) * text).view(len(parts), text)
        video = torch.arange(math.prod(grid)).split(self.lengths)
        self.join = torch.cat([part for both in zip(video, prompts, strict=True) for part in both])
        self.part = torch.argsort(self.join)
        self.video = torch.cat([_video_angles(kind, tuple(part.shape), text) for part in parts])
        self.prompt = _text_angles(text).repeat(len(parts), 1) if kind == "3b" else None


def _video_angles(kind: str, shape: tuple[int, ...], text: int) -> Tensor:  # (L, values turned)
    if kind == "3b":
        frequencies = 10000 ** (-torch.arange(0, 42, 2) / 42)
        positions = [torch.arange(n, dtype=torch.float32) for n in shape]
        positions[0] += text
    else:
        frequencies = math.pi * torch.linspace(1, HEAD, 10)
        positions = [torch.linspace(-1, 1, n) for n in shape]
    axes = torch.meshgrid(*positions, indexing="ij")
    return torch.cat([axis.reshape(-1, 1) * frequencies for axis in axes], dim=1).repeat_interleave(2, dim=1)


def _text_angles(text: int) -> Tensor:
    return (torch.arange(text)[:, None] * 10000 ** (-torch.arange(0, 42, 2) / 42)).repeat_interleave(2, 1).repeat(1, 3)


def turned(u: Tensor, angles: Tensor) -> Tensor:  # (N, H, 128), (N, values turned)
    head, rest = u[..., : angles.shape[1]].float(), u[..., angles.shape[1] :]
    even, odd = head.unflatten(-1, (-1, 2)).unbind(-1)
    other = torch.stack((-odd, even), dim=-1).flatten(-2)
    return torch.cat(((head * angles.cos()[:, None] + other * angles.sin()[:, None]).to(u.dtype), rest), dim=-1)


class PlainDiT:
    """`weights` by their published names, rotary tables left out."""

    def __init__(self, config: DiTConfig, weights: Mapping[str, Tensor]) -> None:
        self.config, self.weights = config, dict(weights)

    @torch.inference_mode()
    def __call__(self, x: Tensor, text: Tensor, timestep: float = 1000.0) -> Tensor:
        """(T, H, W, 33), (L, text_dim) -> (T, H, W, 16)."""
        frames, height, width, channels = x.shape
        grid = frames, height // PATCH, width // PATCH
        self._windows: dict[bool, Windows] = {}
        self._spread: dict[object, Tensor] = {}
        self._time = self._time_embedding(timestep, x.dtype)
        x = x.view(frames, grid[1], PATCH, grid[2], PATCH, channels).transpose(2, 3)
        x, y = self._linear("vid_in.proj", x.reshape(math.prod(grid), -1)), self._linear("txt_in", text)
        for layer in range(self.config.layers):
            x, y = self._block(layer, x, y, grid)
        if self.config.kind == "3b":
            x = F.rms_norm(x, x.shape[-1:], self.weights["vid_out_norm.weight"], EPS)
            shift, scale, _ = self._spread_time("vid", 0, len(x)).unbind(-1)
            x = x * (scale + self.weights["vid_out_ada.out_scale"]) + (shift + self.weights["vid_out_ada.out_shift"])
        out = self._linear("vid_out.proj", x).view(*grid, PATCH, PATCH, OUTPUTS)
        return out.transpose(2, 3).reshape(frames, height, width, OUTPUTS)

    def _block(self, layer: int, x: Tensor, y: Tensor, grid: Size) -> tuple[Tensor, Tensor]:
        bare = self.config.kind == "3b" and layer == self.config.layers - 1
        normed = F.rms_norm(y, y.shape[-1:], None, EPS) if bare else self._in(layer, "txt", "attn", y)
        video, prompt = self._attention(layer, self._in(layer, "vid", "attn", x), normed, grid)
        x = x + self._out(layer, "vid", "attn", video)
        x = x + self._out(layer, "vid", "mlp", self._mlp(layer, "vid", self._in(layer, "vid", "mlp", x)))
        if not bare:
            y = y + self._out(layer, "txt", "attn", prompt)
            y = y + self._out(layer, "txt", "mlp", self._mlp(layer, "txt", self._in(layer, "txt", "mlp", y)))
        return x, y

    def _attention(self, layer: int, x: Tensor, y: Tensor, grid: Size) -> tuple[Tensor, Tensor]:
        windows = self._windows_of(layer, grid, len(y))
        count = len(windows.lengths)
        video = self._linear(self._name(layer, "attn.proj_qkv", "vid"), x)[windows.gather]
        prompt = self._linear(self._name(layer, "attn.proj_qkv", "txt"), y)
        vq, vk, vv = video.unflatten(-1, (3, -1, HEAD)).unbind(1)
        tq, tk, tv = prompt.unflatten(-1, (3, -1, HEAD)).unbind(1)
        vq, vk = (self._head_norm(layer, n, "vid", u) for n, u in (("norm_q", vq), ("norm_k", vk)))
        tq, tk = (self._head_norm(layer, n, "txt", u) for n, u in (("norm_q", tq), ("norm_k", tk)))
        tq, tk, tv = (u.repeat(count, 1, 1) for u in (tq, tk, tv))
        vq, vk = turned(vq, windows.video), turned(vk, windows.video)
        if windows.prompt is not None:
            tq, tk = turned(tq, windows.prompt), turned(tk, windows.prompt)
        q, k, v = (torch.cat(both)[windows.join] for both in ((vq, tq), (vk, tk), (vv, tv)))
        lengths = [length + len(y) for length in windows.lengths]
        heard = []
        for parts in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
            one = F.scaled_dot_product_attention(*(part.transpose(0, 1)[None] for part in parts))
            heard.append(one[0].transpose(0, 1))
        both = torch.cat(heard)[windows.part].flatten(1)
        video, prompt = both[: len(x)][windows.scatter], both[len(x) :].view(count, len(y), -1).mean(0)
        return (
            self._linear(self._name(layer, "attn.proj_out", "vid"), video),
            self._linear(self._name(layer, "attn.proj_out", "txt"), prompt),
        )

    def _mlp(self, layer: int, stream: Stream, x: Tensor) -> Tensor:
        name = self._name(layer, "mlp", stream)
        if self.config.kind == "3b":
            gate = F.silu(self._linear(f"{name}.proj_in_gate", x))
            return self._linear(f"{name}.proj_out", gate * self._linear(f"{name}.proj_in", x))
        return self._linear(f"{name}.proj_out", F.gelu(self._linear(f"{name}.proj_in", x), approximate="tanh"))

    def _in(self, layer: int, stream: Stream, part: str, x: Tensor) -> Tensor:
        shift, scale, _ = self._modulation(layer, stream, part, len(x))
        return F.rms_norm(x, x.shape[-1:], None, EPS).mul_(scale).add_(shift)

    def _out(self, layer: int, stream: Stream, part: str, x: Tensor) -> Tensor:
        return x * self._modulation(layer, stream, part, len(x))[2]

    def _modulation(self, layer: int, stream: Stream, part: str, count: int) -> list[Tensor]:
        """Shift, scale and gate of each of so many tokens, (count, D)."""
        time = self._spread_time(stream, ("attn", "mlp").index(part), count).unbind(-1)
        name = self._name(layer, "ada", stream)
        kinds = zip(("shift", "scale", "gate"), time, strict=True)
        return [e + self.weights[f"{name}.{part}_{kind}"] for kind, e in kinds]

    def _spread_time(self, stream: Stream, part: int, count: int) -> Tensor:
        """The time embedding for each of so many tokens, (count, D, 3); the 3B keeps it for all layers."""
        if self.config.kind == "7b":
            return self._time[:, part].repeat(count, 1, 1)
        if (stream, part) not in self._spread:
            self._spread[stream, part] = self._time[:, part].repeat(count, 1, 1)
        return self._spread[stream, part]

    def _windows_of(self, layer: int, grid: Size, text: int) -> Windows:
        shifted = layer % 2 == 1
        if self.config.kind == "7b":
            return Windows("7b", grid, text, shifted)
        if shifted not in self._windows:
            self._windows[shifted] = Windows("3b", grid, text, shifted)
        return self._windows[shifted]

    def _time_embedding(self, timestep: float, dtype: torch.dtype) -> Tensor:  # (D, 2, 3)
        angles = timestep * torch.exp(-math.log(10000) * torch.arange(128) / 128)
        h = torch.cat((angles.sin(), angles.cos())).to(dtype)
        h = F.silu(self._linear("emb_in.proj_hid", F.silu(self._linear("emb_in.proj_in", h))))
        return self._linear("emb_in.proj_out", h).view(-1, 2, 3)

    def _head_norm(self, layer: int, norm: str, stream: Stream, x: Tensor) -> Tensor:
        return F.rms_norm(x, (HEAD,), self.weights[f"{self._name(layer, f'attn.{norm}', stream)}.weight"], EPS)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _name(self, layer: int, part: str, stream: Stream) -> str:
        return f"blocks.{layer}.{part}.{'all' if layer >= self.config.separate else stream}"
