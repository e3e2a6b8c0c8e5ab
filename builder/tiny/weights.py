"""What is in the tiny checkpoints: names and shapes of our own networks, values that anybody can make again."""

import math
import zlib

import torch
from torch import Tensor, nn

from engine.models.seedvr2 import dit
from engine.models.seedvr2.config import DiTConfig
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAEConfig

TEXT_DIM = 64
POSITIVE, NEGATIVE = 58, 64  # tokens of the two prompts
# 256 is the least width whose rows can be blocks of ggml's K types.
CONFIGS = {
    "3b": DiTConfig("3b", dim=256, layers=2, hidden=768, separate=1, text_dim=TEXT_DIM),
    "7b": DiTConfig("7b", dim=256, layers=2, hidden=1024, separate=2, text_dim=TEXT_DIM),
}
VAE = VAEConfig(channels=(32, 32, 32, 32), groups=16)


def transformer(kind: str) -> dict[str, Tensor]:
    """All tensors of a published file, float32, the rotary tables of each block among them."""
    config = CONFIGS[kind]
    with torch.device("meta"):
        net = dit.build(config)
    tables = {f"blocks.{i}.attn.rope.rope.freqs": _rotary(kind) for i in range(config.layers)}
    return by_rule(net) | tables


def autoencoder() -> dict[str, Tensor]:
    """All tensors of the VAE's file, float32."""
    with torch.device("meta"):
        net = VideoVAE(VAE)
    return by_rule(net)


def prompt(name: str, length: int) -> Tensor:
    """(L, text_dim) in bfloat16."""
    return _noise(name, (length, TEXT_DIM)).bfloat16()


def by_rule(net: nn.Module) -> dict[str, Tensor]:
    """Each tensor's noise is seeded by its name, and of a size that keeps activations of order one."""
    return {name: tensor_by_rule(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()}


def tensor_by_rule(name: str, shape: tuple[int, ...]) -> Tensor:
    """One of them, float32. SeedVR2's goldens were made with the same."""
    w = _noise(name, shape)
    if len(shape) >= 2:
        return w / math.sqrt(math.prod(shape[1:]))
    if name.endswith(("weight", "_scale")):
        return 1 + 0.1 * w
    return (0.5 if name.endswith("_gate") else 0.02) * w


def _noise(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def _rotary(kind: str) -> Tensor:
    """The table of frequencies that published files carry in each block, and that nobody should read."""
    if kind == "3b":
        return 10000.0 ** (-torch.arange(0, 42, 2) / 42)
    return math.pi * torch.linspace(1, 128, 10)
