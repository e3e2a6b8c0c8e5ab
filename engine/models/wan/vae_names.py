"""The names of Wan2.1's video autoencoder in published files: the original ones, which are ours, and diffusers'."""

import re
from collections.abc import Mapping

import torch

from engine.models.handles import Checkpoint, T
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import WanVAEConfig

_INPUTS = {"": "encoder.conv1.weight", "diffusers": "encoder.conv_in.weight"}
_PARTS = (  # of names: ours, that of diffusers
    (r"(encoder|decoder)\.conv1\.", r"\1.conv_in."),
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"\.head\.0\.", ".norm_out."),
    (r"\.head\.2\.", ".conv_out."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"\.downsamples\.", ".down_blocks."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)
_UPSAMPLE = re.compile(r"\.upsamples\.(\d+)\.")


def parse(weights: Mapping[str, T]) -> Checkpoint[WanVAEConfig, T] | None:
    """What the checkpoint holds, or None when it is no such autoencoder. The loader checks each name."""
    first = next((weights[name] for name in _INPUTS.values() if name in weights), None)
    if first is None or len(first.shape) != 5 or not any(name.endswith(".gamma") for name in weights):
        return None
    config = WanVAEConfig(first.shape[0])
    if _INPUTS[""] in weights:
        return Checkpoint(config, dict(weights))
    with torch.device("meta"):
        ours = {diffusers_name(name): name for name in WanVAE(config).state_dict()}
    return Checkpoint(config, {ours.get(name, name): weight for name, weight in weights.items()})


def diffusers_name(name: str) -> str:
    """What diffusers calls a tensor of ours."""
    for ours, theirs in _PARTS:
        name = re.sub(ours, theirs, name)
    return _UPSAMPLE.sub(_up_block, name)


def _up_block(match: re.Match[str]) -> str:
    """Three residual blocks and what follows at the next larger size make one of theirs."""
    block, layer = divmod(int(match[1]), 4)
    return f".up_blocks.{block}.upsamplers.0." if layer == 3 else f".up_blocks.{block}.resnets.{layer}."
