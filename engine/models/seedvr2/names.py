"""Which transformer a checkpoint is for, read from its names and shapes alone, with what does not belong taken out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic

from engine.models.handles import HasShape, T
from engine.models.seedvr2.config import HEAD, INPUTS, PATCH, DiTConfig

_PREFIX = "model.diffusion_model."
_ROTARY = re.compile(r"blocks\.\d+\.attn\.rope\.rope\.freqs")
_ROTARY_LENGTH = {"3b": 21, "7b": 10}


@dataclass(frozen=True, slots=True)
class Checkpoint(Generic[T]):
    """`weights` by the names of `dit.build(config)`; the prompt (L, text_dim) that some files carry along."""

    config: DiTConfig
    weights: dict[str, T]
    positive: T | None


def parse(weights: Mapping[str, T]) -> Checkpoint[T] | None:
    """What the checkpoint holds, or None when it is no SeedVR2 transformer. The loader checks each name."""
    if all(name.startswith(_PREFIX) for name in weights):
        weights = {name.removeprefix(_PREFIX): weight for name, weight in weights.items()}
    ours = dict(weights)
    positive = ours.pop("positive_conditioning", None)
    ours.pop("negative_conditioning", None)  # for guidance, which a network of one step has no use for
    try:
        config = _config(ours)
    except (KeyError, ValueError):  # what tells a size is missing, or the size is impossible
        return None
    for name in [name for name in ours if _ROTARY.fullmatch(name)]:
        if tuple(ours[name].shape) == (_ROTARY_LENGTH[config.kind],):  # of another length, the loader will not know it
            del ours[name]
    return Checkpoint(config, ours, positive)


def _config(weights: Mapping[str, HasShape]) -> DiTConfig:
    dim, patch = weights["vid_in.proj.weight"].shape
    if patch != PATCH**2 * INPUTS or dim % HEAD:
        raise ValueError
    layers = 1 + max(int(m[1]) for name in weights if (m := re.match(r"blocks\.(\d+)\.", name)))
    shared = [int(m[1]) for name in weights if (m := re.match(r"blocks\.(\d+)\.attn\.proj_qkv\.all\.", name))]
    gated = "blocks.0.mlp.vid.proj_in_gate.weight" in weights or "blocks.0.mlp.all.proj_in_gate.weight" in weights
    stream = "all" if 0 in shared else "vid"
    return DiTConfig(
        "3b" if gated else "7b",
        dim=dim,
        layers=layers,
        hidden=weights[f"blocks.0.mlp.{stream}.proj_in.weight"].shape[0],
        separate=min(shared, default=layers),
        text_dim=weights["txt_in.weight"].shape[1],
    )
