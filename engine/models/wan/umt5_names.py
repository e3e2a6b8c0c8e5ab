"""The names under which UMT5's encoder is published -> ours, which are those of Wan2.1's own file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.models.handles import Checkpoint, HasShape, T
from engine.models.wan.umt5 import BUCKETS, UMT5Config

TOKENIZER = "spiece_model"  # the bytes of the tokenizer's file, which ComfyUI's checkpoints carry along
_TWICE = "encoder.embed_tokens.weight"  # transformers' second name for the embedding, which some files hold twice

_PLAIN = {
    "shared.weight": "token_embedding.weight",
    _TWICE: "token_embedding.weight",
    "encoder.final_layer_norm.weight": "norm.weight",
    "token_embd.weight": "token_embedding.weight",
    "enc.output_norm.weight": "norm.weight",
}
_TRANSFORMERS = {
    "layer.0.layer_norm": "norm1",
    "layer.0.SelfAttention.q": "attn.q",
    "layer.0.SelfAttention.k": "attn.k",
    "layer.0.SelfAttention.v": "attn.v",
    "layer.0.SelfAttention.o": "attn.o",
    "layer.0.SelfAttention.relative_attention_bias": "pos_embedding.embedding",
    "layer.1.layer_norm": "norm2",
    "layer.1.DenseReluDense.wi_0": "ffn.gate.0",
    "layer.1.DenseReluDense.wi_1": "ffn.fc1",
    "layer.1.DenseReluDense.wo": "ffn.fc2",
}
_LLAMA = {  # llama.cpp's, of the architectures t5 and t5encoder
    "attn_norm": "norm1",
    "attn_q": "attn.q",
    "attn_k": "attn.k",
    "attn_v": "attn.v",
    "attn_o": "attn.o",
    "attn_rel_b": "pos_embedding.embedding",
    "ffn_norm": "norm2",
    "ffn_gate": "ffn.gate.0",
    "ffn_up": "ffn.fc1",
    "ffn_down": "ffn.fc2",
}
_LAYER = re.compile(r"(encoder\.block|enc\.blk)\.(\d+)\.(.+)\.weight")


@dataclass(frozen=True, slots=True)
class TextCheckpoint(Checkpoint[UMT5Config, T]):
    """spiece: the tokenizer's file, (bytes,), if the checkpoint carries it along."""

    spiece: T | None


def parse(weights: Mapping[str, T]) -> TextCheckpoint[T] | None:
    """What the checkpoint holds, or None when it is no such encoder. The loader checks each name."""
    given = dict(weights)
    spiece = given.pop(TOKENIZER, None)
    if "shared.weight" in given:
        given.pop(_TWICE, None)
    ours = {_our_name(name): weight for name, weight in given.items()}
    try:
        config = _config(ours)
    except (KeyError, ValueError):  # what tells a size is missing, or the size is impossible
        return None
    return TextCheckpoint(config, ours, spiece)


def _our_name(name: str) -> str:
    if name in _PLAIN:
        return _PLAIN[name]
    if match := _LAYER.fullmatch(name):
        layout = _TRANSFORMERS if match[1] == "encoder.block" else _LLAMA
        if match[3] in layout:
            return f"blocks.{match[2]}.{layout[match[3]]}.weight"
    return name


def _config(weights: Mapping[str, HasShape]) -> UMT5Config:
    vocab, dim = weights["token_embedding.weight"].shape
    buckets, heads = weights["blocks.0.pos_embedding.embedding.weight"].shape
    if buckets != BUCKETS:
        raise ValueError
    return UMT5Config(
        vocab=vocab,
        dim=dim,
        inner=weights["blocks.0.attn.q.weight"].shape[0],
        heads=heads,
        hidden=weights["blocks.0.ffn.fc1.weight"].shape[0],
        layers=1 + max(int(match[1]) for name in weights if (match := re.match(r"blocks\.(\d+)\.", name))),
    )
