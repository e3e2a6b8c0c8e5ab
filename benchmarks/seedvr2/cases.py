"""What `python -m benchmarks.seedvr2` times: one forward each, ours and plain from the same weights."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.seedvr2.plain_dit import PlainDiT
from benchmarks.seedvr2.plain_vae import PlainVAE
from builder.tiny.weights import by_rule
from engine.models.seedvr2.config import INPUTS, DiTConfig
from engine.models.seedvr2.dit import build
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import SPATIAL, TEMPORAL, VAE, VAEConfig

TEXT = 58  # tokens of the published prompt
Weights = Mapping[str, Tensor]
Forward = Callable[..., Tensor]
Half = Literal["encode", "decode"]


@dataclass(frozen=True, slots=True)
class Case:
    """A forward of a transformer, or of a `half` of the autoencoder.

    size: frames, rows, columns; of the latent for a transformer, of the video for the autoencoder. reference: seconds
    that the published implementation took for it in float32, on another machine with two such cores.
    """

    net: DiTConfig | VAEConfig
    size: tuple[int, int, int]
    half: Half | None = None
    reference: float | None = None

    @property
    def name(self) -> str:
        net = self.net
        what = f"{net.kind} dim {net.dim} layers {net.layers}" if isinstance(net, DiTConfig) else f"vae {self.half}"
        return f"{what} {'x'.join(map(str, self.size))}"

    def smaller(self) -> "Case":
        """About a quarter of the work."""
        frames, *edges = self.size
        step = SPATIAL if self.half else 2
        height, width = (edge // 2 // step * step for edge in edges)
        return dataclasses.replace(self, size=(frames, height, width), reference=None)

    def inputs(self) -> tuple[Tensor, ...]:
        """Of the plain forward, float32: (T, H, W, 33) and the prompt, or (1, 3 or 16, T, H, W)."""
        frames, height, width = self.size
        if isinstance(self.net, DiTConfig):
            return torch.randn(*self.size, INPUTS), torch.randn(TEXT, self.net.text_dim)
        if self.half == "encode":
            return (torch.rand(1, self.net.colours, *self.size) * 2 - 1,)
        latents = (frames - 1) // TEMPORAL + 1
        return (torch.randn(1, self.net.latent, latents, height // SPATIAL, width // SPATIAL),)

    def plain(self, weights: Weights) -> Forward:
        if isinstance(self.net, DiTConfig):
            return PlainDiT(self.net, weights)
        with torch.device("meta"):
            vae = PlainVAE(self.net)
        vae.load_state_dict(weights, assign=True)
        return vae.encode if self.half == "encode" else vae.decode

    def ours(self, dtype: torch.dtype, text: Tensor | None) -> Forward:
        if isinstance(self.net, DiTConfig):
            assert text is not None
            dit = build_dit(self.net, dtype)
            dit.prepare(text)
            return lambda x, text: dit(x[None])[0]
        vae = build_vae(self.net, dtype)
        return vae.encode if self.half == "encode" else vae.decode

    def operations(self) -> int:
        """Of the plain forward; a multiplication and an addition are two."""
        with torch.device("meta"), FlopCounterMode(display=False) as counted:
            net = build(self.net) if isinstance(self.net, DiTConfig) else VideoVAE(self.net)
            self.plain(net.state_dict())(*self.inputs())
        return counted.get_total_flops()


@lru_cache(maxsize=2)
def weights_of(net: DiTConfig | VAEConfig, dtype: torch.dtype) -> Weights:
    """The same values for any dtype, by the published names."""
    with torch.device("meta"):
        made = build(net) if isinstance(net, DiTConfig) else VideoVAE(net)
    return {name: weight.to(dtype) for name, weight in by_rule(made).items()}


def build_dit(config: DiTConfig, dtype: torch.dtype) -> torch.nn.Module:
    """Not yet prepared."""
    with torch.device("meta"):
        net = build(config)
    net.load_state_dict(weights_of(config, dtype), assign=True)
    return net.eval().requires_grad_(False)


@lru_cache(maxsize=2)
def build_vae(config: VAEConfig, dtype: torch.dtype) -> VideoVAE:
    """Prepared."""
    with torch.device("meta"):
        net = VideoVAE(config)
    net.load_state_dict(weights_of(config, dtype), assign=True)
    net.eval().requires_grad_(False).prepare()
    return net


WIDE_3B = DiTConfig("3b", dim=768, layers=10, hidden=2048, separate=4)
WIDE_7B = DiTConfig("7b", dim=768, layers=8, hidden=3072, separate=8)
DEEP_3B = DiTConfig("3b", dim=256, layers=32, hidden=768, separate=10)

CASES = (
    Case(WIDE_3B, (5, 46, 80), reference=3.9),
    Case(WIDE_3B, (1, 90, 160), reference=2.35),
    Case(WIDE_7B, (5, 46, 80), reference=2.7),
    Case(DEEP_3B, (3, 42, 62), reference=0.92),
    Case(VAE, (1, 192, 192), "decode", 3.5),
    Case(VAE, (5, 96, 96), "decode", 3.4),
    Case(VAE, (13, 80, 80), "decode", 6.1),
    Case(VAE, (17, 64, 64), "decode"),
    Case(VAE, (1, 192, 192), "encode", 1.5),
    Case(VAE, (5, 96, 96), "encode", 1.45),
    Case(VAE, (17, 64, 64), "encode"),
)
