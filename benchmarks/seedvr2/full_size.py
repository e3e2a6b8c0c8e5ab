"""SeedVR2's networks with random weights, made on the device they run on, and what arithmetic they are."""

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.card import DTYPE, counted, random_weights
from benchmarks.seedvr2.cases import TEXT
from engine.models.seedvr2 import attention
from engine.models.seedvr2.blocks import ResnetBlock
from engine.models.seedvr2.config import INPUTS, DiTConfig
from engine.models.seedvr2.dit import build
from engine.models.seedvr2.upsample import Upsampler
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import SPATIAL, TEMPORAL, VAEConfig
from engine.pipelines.seedvr2.networks import Networks
from engine.weights.load import load_weights
from engine.weights.packed import unpack_once


def networks(config: DiTConfig, vae_config: VAEConfig, device: torch.device, *, fp8: bool) -> Networks:
    """Both, ready to run."""
    with torch.device("meta"):
        dit, vae = build(config), VideoVAE(vae_config)
    load_weights(dit, random_weights(dit, device, fp8=fp8), "random", dtype=DTYPE)
    dit.eval().requires_grad_(False).prepare(torch.randn(TEXT, config.text_dim).to(device, DTYPE))
    for block in dit.layers:
        unpack_once(block)
    load_weights(vae, random_weights(vae, device, fp8=False), "random", dtype=DTYPE)
    vae.eval().requires_grad_(False).prepare()
    return Networks(dit, vae, device, DTYPE)


def compile_layers(nets: Networks) -> None:
    """With torch.compile, each when it first runs. Rotary tables, which are cached, are not made anew in there."""
    for name in ("video_table", "text_table"):
        setattr(attention, name, torch.compiler.disable(getattr(attention, name)))
    convolving = [layer for layer in nets.vae.modules() if isinstance(layer, ResnetBlock | Upsampler)]
    for layer in [*nets.dit.layers, *convolving]:
        layer.compile()


def operations(nets: Networks, frames: int, height: int, width: int) -> dict[str, int]:
    """By phase, as our code runs them on whole frames; a multiplication and an addition are two.

    Of the transformer two layers are counted, one with shifted windows, and taken times their number.
    """
    pairs = nets.dit.config.layers // 2
    two = replace(nets.dit.config, layers=2, separate=2 if nets.dit.config.kind == "7b" else 1)
    latent = (frames - 1) // TEMPORAL + 1, height // SPATIAL, width // SPATIAL
    config = nets.vae.config
    with torch.device("meta"):
        dit, vae = build(two).to(DTYPE), VideoVAE(config).to(DTYPE)
        dit.prepare(torch.empty(TEXT, nets.dit.config.text_dim))
        vae.prepare()
        x, y = torch.empty(1, *latent, INPUTS), torch.empty(1, config.colours, frames, height, width)
        z = torch.empty(1, config.latent, *latent)
    work: dict[str, Callable[[], object]] = {
        "encode": lambda: vae.encode(y),
        "dit": lambda: dit(x),
        "decode": lambda: vae.decode(z),
    }
    return {phase: counted(run) * (pairs if phase == "dit" else 1) for phase, run in work.items()}
