"""The names and shapes of SeedVR2's published video autoencoder."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAEConfig

W = TypeVar("W")  # a tensor, or a handle that knows its `shape`

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))")


def rename(weights: Mapping[str, W]) -> dict[str, W]:
    """The names that diffusers once had for attention (`query`, `proj_attn`, ...) in today's; others as they are."""
    return {_new_name(name): weight for name, weight in weights.items()}


def recognise(weights: Mapping[str, Any]) -> VAEConfig | None:
    """The sizes of renamed `weights`, or None when they are not this network's.

    How many groups a norm has is not in a checkpoint: 32 as published, but never fewer than two channels to a group.
    """
    try:
        channels = tuple(weights[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"].shape[0] for level in range(4))
        latent = weights["decoder.conv_in.weight"].shape[1]
        config = VAEConfig(channels, min(32, channels[0] // 2), latent, weights["encoder.conv_in.weight"].shape[1])
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        return None
    with torch.device("meta"):
        wanted = VideoVAE(config).state_dict()
    same = wanted.keys() == weights.keys() and all(weights[n].shape == tensor.shape for n, tensor in wanted.items())
    return config if same else None


def _new_name(name: str) -> str:
    match = _OLD_NAME.fullmatch(name)
    return f"{match[1]}{_OLD[match[2]]}{match[3]}" if match else name
