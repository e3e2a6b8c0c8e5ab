"""Networks for the benchmarks of Wan2.1, all with weights by the rule; those of diffusers are made of the same."""

from functools import lru_cache

import torch
from torch import Tensor

from builder.tiny.wan_networks import by_rule
from engine.models.wan.config import DiTConfig
from engine.models.wan.dit import WanDiT
from engine.models.wan.umt5 import UMT5, UMT5Config
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import WanVAEConfig
from engine.pipelines.wan.networks import Networks
from engine.weights.load import load_weights

CPU = torch.device("cpu")
Weights = dict[str, Tensor]


@lru_cache(maxsize=1)
def dit_weights(config: DiTConfig) -> Weights:
    return by_rule(lambda: WanDiT(config))


@lru_cache(maxsize=1)
def vae_weights(config: WanVAEConfig) -> Weights:
    return by_rule(lambda: WanVAE(config))


@lru_cache(maxsize=1)
def text_weights(config: UMT5Config) -> Weights:
    return by_rule(lambda: UMT5(config))


def build_dit(config: DiTConfig, dtype: torch.dtype) -> WanDiT:
    """Prepared for a processor, as the other two."""
    with torch.device("meta"):
        net = WanDiT(config)
    load_weights(net, dit_weights(config), "by rule", device=CPU, dtype=dtype)
    net.eval().requires_grad_(False).prepare(CPU)
    return net


def build_vae(config: WanVAEConfig, dtype: torch.dtype) -> WanVAE:
    with torch.device("meta"):
        net = WanVAE(config)
    load_weights(net, vae_weights(config), "by rule", device=CPU, dtype=dtype)
    net.eval().requires_grad_(False).prepare()
    return net


def build_text(config: UMT5Config, dtype: torch.dtype) -> UMT5:
    with torch.device("meta"):
        net = UMT5(config)
    load_weights(net, text_weights(config), "by rule", device=CPU, dtype=dtype)
    return net.eval().requires_grad_(False)


def networks(dit: DiTConfig, vae: WanVAEConfig, text: UMT5Config, dtype: torch.dtype) -> Networks:
    """Of a model that makes video of text."""
    return Networks(build_text(text, dtype), None, build_dit(dit, dtype), build_vae(vae, dtype), CPU, dtype)
