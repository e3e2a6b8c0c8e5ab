"""Wan2.1's original names -> those under which others publish the same tensors."""

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from engine.models.wan.names import INSIDE, OUTSIDE
from engine.models.wan.vae_names import diffusers_name

Tensors = dict[str, Tensor]

_LAYER = re.compile(r"(?:visual\.transformer|blocks)\.(\d+)\.(.+)")
_TRANSFORMERS_TEXT = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_LLAMA_TEXT = {
    "norm1": "attn_norm",
    "attn.q": "attn_q",
    "attn.k": "attn_k",
    "attn.v": "attn_v",
    "attn.o": "attn_o",
    "pos_embedding.embedding": "attn_rel_b",
    "norm2": "ffn_norm",
    "ffn.gate.0": "ffn_gate",
    "ffn.fc1": "ffn_up",
    "ffn.fc2": "ffn_down",
}
_TRANSFORMERS_IMAGE = {
    "norm1": "layer_norm1",
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
_AROUND_IMAGE = {
    "visual.cls_embedding": "embeddings.class_embedding",
    "visual.pos_embedding": "embeddings.position_embedding.weight",
    "visual.patch_embedding.weight": "embeddings.patch_embedding.weight",
    "visual.pre_norm.weight": "pre_layrnorm.weight",
    "visual.pre_norm.bias": "pre_layrnorm.bias",
    "visual.post_norm.weight": "post_layernorm.weight",
    "visual.post_norm.bias": "post_layernorm.bias",
}


def diffusers_transformer(tensors: Mapping[str, Tensor]) -> Tensors:
    """With the norm that its i2v networks hold and never use."""
    inside, outside = ({ours: theirs for theirs, ours in table.items()} for table in (INSIDE, OUTSIDE))
    renamed = {}
    for name, tensor in tensors.items():
        block = re.fullmatch(r"(blocks\.\d+\.)(.+)", name)
        start, rest = block.groups() if block else ("", name)
        table, (layer, _, leaf) = inside if block else outside, rest.rpartition(".")
        renamed[start + table[rest] if rest in table else f"{start}{table.get(layer, layer)}.{leaf}"] = tensor
    unused = [name for name in renamed if name.endswith("attn2.norm_added_k.weight")]
    return renamed | {name.replace("added_k", "added_q"): renamed[name].clone() for name in unused}


def diffusers_autoencoder(tensors: Mapping[str, Tensor]) -> Tensors:
    return {diffusers_name(name): tensor for name, tensor in tensors.items()}


def transformers_text(tensors: Mapping[str, Tensor]) -> Tensors:
    around = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
    return _text(tensors, around, "encoder.block", _TRANSFORMERS_TEXT)


def llama_text(tensors: Mapping[str, Tensor]) -> Tensors:
    around = {"token_embedding.weight": "token_embd.weight", "norm.weight": "enc.output_norm.weight"}
    return _text(tensors, around, "enc.blk", _LLAMA_TEXT)


def transformers_image(tensors: Mapping[str, Tensor]) -> Tensors:
    return dict(_image(tensors))


def _text(tensors: Mapping[str, Tensor], around: Mapping[str, str], layer: str, parts: Mapping[str, str]) -> Tensors:
    renamed = {}
    for name, tensor in tensors.items():
        block = _LAYER.fullmatch(name)
        part = parts[block[2].removesuffix(".weight")] if block else ""
        renamed[f"{layer}.{block[1]}.{part}.weight" if block else around[name]] = tensor
    return renamed


def _image(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        layer = _LAYER.fullmatch(name)
        if name == "visual.head":
            yield "visual_projection.weight", tensor.t().contiguous()
        elif layer is None:
            leading = {"visual.cls_embedding": (0, 0), "visual.pos_embedding": (0,)}.get(name, ())
            for dim in leading:
                tensor = tensor.squeeze(dim)
            yield f"vision_model.{_AROUND_IMAGE[name]}", tensor
        else:
            start, (part, _, leaf) = f"vision_model.encoder.layers.{layer[1]}", layer[2].rpartition(".")
            if part == "attn.to_qkv":
                for letter, rows in zip("qkv", tensor.chunk(3), strict=True):
                    yield f"{start}.self_attn.{letter}_proj.{leaf}", rows.contiguous()
            else:
                yield f"{start}.{_TRANSFORMERS_IMAGE[part]}.{leaf}", tensor
