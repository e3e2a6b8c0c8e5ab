"""The names of Wan2.1's video autoencoder in published files: the original ones, which are ours, and diffusers'."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import WanVAEConfig

W = TypeVar("W")  # a tensor, or a handle that knows its `shape`

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


def parse(weights: Mapping[str, W]) -> tuple[WanVAEConfig, dict[str, W]] | None:
    """The sizes of a published file and its weights by our names, or None when they are not this network's."""
    first: Any = next((weights[name] for name in _INPUTS.values() if name in weights), None)
    if first is None or len(first.shape) != 5:
        return None
    config = WanVAEConfig(first.shape[0])
    with torch.device("meta"):
        wanted = WanVAE(config).state_dict()
    published = {name if _INPUTS[""] in weights else diffusers_name(name): name for name in wanted}
    if published.keys() != weights.keys():
        return None
    ours: dict[str, Any] = {published[name]: weight for name, weight in weights.items()}
    return (config, ours) if all(ours[name].shape == tensor.shape for name, tensor in wanted.items()) else None


def diffusers_name(name: str) -> str:
    """What diffusers calls a tensor of ours."""
    for ours, theirs in _PARTS:
        name = re.sub(ours, theirs, name)
    return _UPSAMPLE.sub(_up_block, name)


def _up_block(match: re.Match[str]) -> str:
    """Three residual blocks and what follows at the next larger size make one of theirs."""
    block, layer = divmod(int(match[1]), 4)
    return f".up_blocks.{block}.upsamplers.0." if layer == 3 else f".up_blocks.{block}.resnets.{layer}."
