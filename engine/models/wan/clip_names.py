"""The names under which CLIP's vision transformer is published -> ours, with what Wan2.1 does not read left out."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from engine.models.handles import Checkpoint, HasShape, T
from engine.models.wan.clip import PATCH, CLIPConfig

HEAD = 80  # width of one attention head, which no checkpoint tells
_OWN, _TRANSFORMERS = "visual.", "vision_model."
_FUSED = re.compile(r"(transformer\.\d+\.attn\.)to_qkv(\.\w+)")
_LAYER = re.compile(r"(?:transformer|encoder\.layers)\.(\d+)\.(.+)")
_UNREAD = re.compile(r"(post_norm|post_layernorm|head|visual_projection)\b.*|embeddings\.position_ids")

_PLAIN = {
    "embeddings.class_embedding": "cls_embedding",
    "embeddings.position_embedding.weight": "pos_embedding",
    "embeddings.patch_embedding.weight": "patch_embedding.weight",
    "pre_layrnorm.weight": "pre_norm.weight",  # so spelt
    "pre_layrnorm.bias": "pre_norm.bias",
}
_PARTS = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.q_proj": "attn.to_q",
    "self_attn.k_proj": "attn.to_k",
    "self_attn.v_proj": "attn.to_v",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}


def parse(weights: Mapping[str, T]) -> Checkpoint[CLIPConfig, T] | None:
    """What the checkpoint holds, or None when it is no such transformer. The loader checks each name."""
    given = _vision(weights)
    last = max((int(match[1]) for name in given if (match := _LAYER.fullmatch(name))), default=0)
    ours: dict[str, T] = {}
    for name, weight in given.items():
        layer = _LAYER.fullmatch(name)
        if _UNREAD.fullmatch(name) or (layer and int(layer[1]) == last):
            continue
        ours |= _split(name, weight) if _FUSED.fullmatch(name) else {_our_name(name, layer): weight}
    try:
        config = _config(ours, last)
    except (KeyError, ValueError):  # what tells a size is missing, or the size is impossible
        return None
    for name, leading in (("cls_embedding", 2), ("pos_embedding", 1)):  # transformers leaves out these ones
        if name in ours and len(ours[name].shape) == 3 - leading:
            ours[name] = reshaped(ours[name], (*(1,) * leading, *ours[name].shape))
    return Checkpoint(config, ours)


def rows(weight: Any, start: int, stop: int) -> Any:
    """This part of the first dimension, of a tensor or of the handle of one."""
    return weight[start:stop] if isinstance(weight, Tensor) else weight.rows(start, stop)


def reshaped(weight: Any, shape: tuple[int, ...]) -> Any:
    """The same values in another shape, of a tensor or of the handle of one."""
    return weight.view(shape) if isinstance(weight, Tensor) else replace(weight, shape=torch.Size(shape))


def _vision(weights: Mapping[str, T]) -> dict[str, T]:
    """Without what belongs to the text, and without the prefix."""
    for prefix in (_OWN, _TRANSFORMERS):
        if any(name.startswith(prefix) for name in weights):
            return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
    return dict(weights)


def _our_name(name: str, layer: re.Match[str] | None) -> str:
    if layer is None:
        return _PLAIN.get(name, name)
    part, _, leaf = layer[2].rpartition(".")
    return f"transformer.{layer[1]}.{_PARTS.get(part, part)}.{leaf}"


def _split(name: str, weight: T) -> dict[str, T]:
    """Queries, keys and values, (3 D, ...) one after the other."""
    match = _FUSED.fullmatch(name)
    assert match is not None
    size = weight.shape[0] // 3
    return {
        f"{match[1]}to_{part}{match[2]}": rows(weight, index * size, (index + 1) * size)
        for index, part in enumerate("qkv")
    }


def _config(weights: Mapping[str, HasShape], layers: int) -> CLIPConfig:
    dim, _, height, width = weights["patch_embedding.weight"].shape
    if (height, width) != (PATCH, PATCH) or "cls_embedding" not in weights:
        raise ValueError
    return CLIPConfig(dim, max(dim // HEAD, 1), weights["transformer.0.mlp.0.weight"].shape[0], layers)
