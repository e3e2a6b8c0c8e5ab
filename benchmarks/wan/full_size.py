"""Wan2.1's networks with random weights, made on the device they run on, and what arithmetic they are."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.card import DTYPE, counted, random_weights
from builder.tiny import wan_networks as tiny
from engine.models.wan.config import DiTConfig
from engine.models.wan.dit import Block, Context, WanDiT
from engine.models.wan.umt5 import UMT5
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import WanVAEConfig
from engine.pipelines.wan.networks import Networks
from engine.weights.load import load_weights
from engine.weights.packed import PackedLinear, unpack_once

CPU = torch.device("cpu")
LENGTHS = (60, 126)  # tokens of a prompt, and of what guidance leads away from
PICTURE_TOKENS = 257
Weights = dict[str, Tensor]


def dit_weights(config: DiTConfig, device: torch.device, place: torch.device, *, fp8: bool) -> Weights:
    with torch.device("meta"):
        net = WanDiT(config)
    return random_weights(net, device, fp8=fp8, place=place)


def build_dit(config: DiTConfig, weights: Weights) -> WanDiT:
    """As on a card, wherever the weights are."""
    with torch.device("meta"):
        net = WanDiT(config)
    load_weights(net, weights, "random", dtype=DTYPE)
    net.eval().requires_grad_(False).prepare()
    for block in net.blocks:
        unpack_once(block)
    return net


def networks(dit: WanDiT, vae_config: WanVAEConfig, device: torch.device) -> Networks:
    """With an autoencoder, and a tiny text encoder that is not used."""
    with torch.device("meta"):
        text, vae = UMT5(tiny.TEXT), WanVAE(vae_config)
    for net in (text, vae):
        load_weights(net, random_weights(net, device, fp8=False), "random", dtype=DTYPE)
        net.eval().requires_grad_(False)
    vae.prepare()
    return Networks(text, None, dit, vae, device, DTYPE)


def prompts(config: DiTConfig, device: torch.device) -> tuple[list[Tensor], Tensor | None]:
    """Rows of both prompts, and the features of a picture where the network looks at one."""
    rows = [torch.randn(length, config.text_dim, device=device, dtype=DTYPE) for length in LENGTHS]
    if config.image_dim is None:
        return rows, None
    return rows, torch.randn(PICTURE_TOKENS, config.image_dim, device=device, dtype=DTYPE)


def multiply_in_fp8(net: nn.Module, on: bool) -> None:
    for layer in net.modules():
        if isinstance(layer, PackedLinear):
            layer.fp8_matmul = on


def compile_blocks() -> None:
    """With torch.compile, one graph for all layers. What brings and unpacks their weights stays outside."""
    Block.step = torch.compile(Block.step)  # type: ignore[method-assign]


def dit_operations(config: DiTConfig, size: tuple[int, int, int]) -> int:
    """Of one pass over a latent of frames x rows x columns, as our code runs it; the layers are all alike."""
    one, two = (_operations(replace(config, layers=layers), size) for layers in (1, 2))
    return one + (config.layers - 1) * (two - one)


def _operations(config: DiTConfig, size: tuple[int, int, int]) -> int:
    with torch.device("meta"):
        net = WanDiT(config).to(DTYPE).requires_grad_(False)
        net.prepare()
        image = None if config.image_dim is None else torch.empty(PICTURE_TOKENS, config.image_dim, dtype=DTYPE)
        context: Context = net.context(torch.empty(LENGTHS[0], config.text_dim, dtype=DTYPE), image)
        x = torch.empty(1, config.inputs, *size, dtype=DTYPE)
        return counted(lambda: net(x, 700.0, [context]))


def vae_operations(config: WanVAEConfig, frames: int, height: int, width: int) -> dict[str, int]:
    """Of decoding so many frames, and of the condition that begins with a picture."""
    with torch.device("meta"):
        net = WanVAE(config).to(DTYPE)
        net.prepare()
        z, picture = torch.empty(1, 16, (frames + 3) // 4, height // 8, width // 8), torch.empty(1, 3, height, width)
        return {
            "encode": counted(lambda: net.encode_still(picture, frames)),
            "decode": counted(lambda: list(net.decode(z))),
        }
