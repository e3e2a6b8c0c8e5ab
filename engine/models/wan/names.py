"""Which transformer a checkpoint is for, read from its names and shapes alone; its names become the original ones.

Relatives of Wan2.1 that this engine does not run are told by name, for most of their names and shapes are the same.
"""

import re
from collections.abc import Mapping

from engine.models.handles import Checkpoint, HasShape, T
from engine.models.wan.config import PATCH, DiTConfig, Task

HEAD = 128  # width of a head in every published network: shapes do not tell it

_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
_UNUSED = re.compile(r"blocks\.\d+\.attn2\.norm_added_q\.weight")  # in files of Diffusers' i2v, and in no product
_INPUTS = {"t2v": 16, "i2v": 36}

# Diffusers' names of layers and tensors, inside a block and outside.
_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
INSIDE = {
    "scale_shift_table": "modulation",
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "norm2": "norm3",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "attn2.norm_added_k": "cross_attn.norm_k_img",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
OUTSIDE = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.image_embedder.norm1": "img_emb.proj.0",
    "condition_embedder.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    "condition_embedder.image_embedder.ff.net.2": "img_emb.proj.3",
    "condition_embedder.image_embedder.norm2": "img_emb.proj.4",
    "condition_embedder.image_embedder.pos_embed": "img_emb.emb_pos",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}


class Unsupported(Exception):
    """The checkpoint is of a relative of Wan2.1's networks that this engine does not run; the message names it."""


def parse(weights: Mapping[str, T]) -> Checkpoint[DiTConfig, T] | None:
    """What the checkpoint holds, or None when it is no transformer of Wan's. The loader checks each name.

    Raises Unsupported.
    """
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): weight for name, weight in weights.items()}
    kept = {name: weight for name, weight in weights.items() if not _UNUSED.fullmatch(name)}
    ours = {original(name): weight for name, weight in kept.items()}
    if len(ours) < len(kept):  # two layouts in one file: the loader will not know Diffusers' half
        ours = kept
    try:
        config = _config(ours)
    except (KeyError, ValueError):  # what tells a size is missing, or the size is impossible
        return None
    return Checkpoint(config, ours)


def original(name: str) -> str:
    """The original name of a layer or tensor that may go by Diffusers' name; others stay as they are."""
    block = _BLOCK.fullmatch(name)
    start, rest = block.groups() if block else ("", name)
    table = INSIDE if block else OUTSIDE
    if rest in table:
        return start + table[rest]
    layer, _, leaf = rest.rpartition(".")
    return f"{start}{table[layer]}.{leaf}" if layer in table else name


def stays_wide(name: str) -> bool:
    """Whether the network takes that tensor in float32 whatever it computes in: all but the layers' matrices."""
    block = _BLOCK.fullmatch(name)
    return block is None or block[2] == "modulation" or "norm" in block[2]


def _config(weights: Mapping[str, HasShape]) -> DiTConfig:
    dim, inputs, *patch = weights["patch_embedding.weight"].shape
    if patch != [1, PATCH, PATCH] or dim % HEAD or weights["head.modulation"].shape[-1] != dim:
        raise ValueError
    layers = 1 + max(int(match[1]) for name in weights if (match := re.match(r"blocks\.(\d+)\.", name)))
    image = weights.get("img_emb.proj.0.weight")
    task: Task = "t2v" if image is None else "i2v"
    hidden, text = weights["blocks.0.ffn.0.weight"].shape[0], weights["text_embedding.0.weight"].shape[1]
    times, outputs = weights["time_embedding.0.weight"].shape[1], weights["head.head.weight"].shape[0] // PATCH**2
    if relative := _relative(weights, task, inputs):
        raise Unsupported(f"it is {relative}, which this engine does not run; it runs Wan2.1's t2v and i2v networks")
    return DiTConfig(
        task,
        dim=dim,
        hidden=hidden,
        heads=dim // HEAD,
        layers=layers,
        inputs=inputs,
        outputs=outputs,
        times=times,
        text_dim=text,
        image_dim=image.shape[0] if image is not None else None,
    )


def _relative(weights: Mapping[str, HasShape], task: Task, inputs: int) -> str | None:
    """What the network is if none of ours."""
    if "vace_patch_embedding.weight" in weights:
        return "a VACE network"
    if "img_emb.emb_pos" in weights:
        return "a network for a first and a last frame (FLF2V)"
    if inputs == 48 and task == "t2v":
        return "Wan2.2's TI2V network"
    if inputs == 36 and task == "t2v":
        return "Wan2.2's image-to-video network"
    if inputs != _INPUTS[task]:
        return f"a Wan network of {inputs} input channels"
    return None
