"""Writes Wan2.1's networks as each of their publishers does: which precision for which tensor, in which container."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from gguf import LlamaFileType
from safetensors.torch import save_file
from torch import Tensor

from builder.tiny.gguf_file import Kind, write_gguf

Precision = Literal["fp16", "bf16", "fp8_e4m3fn", "fp8_scaled"]
Quantized = Literal["q4_k_m", "q5_k_m", "q6_k", "q8_0"]
E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max

# llama.cpp's mixtures take more bits for some matrices than for most.
MIXTURES: dict[Quantized, tuple[LlamaFileType, Kind, Kind]] = {
    "q4_k_m": (LlamaFileType.MOSTLY_Q4_K_M, "Q4_K", "Q6_K"),
    "q5_k_m": (LlamaFileType.MOSTLY_Q5_K_M, "Q5_K", "Q6_K"),
    "q6_k": (LlamaFileType.MOSTLY_Q6_K, "Q6_K", "Q6_K"),
    "q8_0": (LlamaFileType.MOSTLY_Q8_0, "Q8_0", "Q8_0"),
}
_MORE_BITS = ("self_attn.v.weight", "ffn.2.weight")


def shards(folder: Path, stem: str, tensors: Mapping[str, Tensor], count: int = 2) -> list[str]:
    """`count` files of neighbouring tensors in their own dtypes, and their index; returns the names of all."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    files = [f"{stem}-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    places = {name: files[i * count // len(names)] for i, name in enumerate(names)}
    for file in files:
        part = {name: tensors[name] for name in names if places[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = f"{stem}.safetensors.index.json"
    total = sum(tensor.nbytes for tensor in tensors.values())
    (folder / index).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    return [*files, index]


def cast(tensors: Mapping[str, Tensor], precision: Precision, marker: int = 2) -> dict[str, Tensor]:
    """In ComfyUI's precisions. marker: how many elements the one has that says a file is in scaled fp8."""
    if precision in ("fp16", "bf16"):
        return {
            name: tensor.to(torch.float16 if precision == "fp16" else torch.bfloat16)
            for name, tensor in tensors.items()
        }
    if precision == "fp8_e4m3fn":
        return {name: tensor.to(E4M3 if tensor.ndim == 2 else torch.float16) for name, tensor in tensors.items()}
    return scaled(tensors, [name for name, tensor in tensors.items() if tensor.ndim == 2], marker)


def scaled(tensors: Mapping[str, Tensor], matrices: Iterable[str], marker: int) -> dict[str, Tensor]:
    """These matrices in fp8 with a scale each, all else in float16."""
    made = {name: tensor.half() for name, tensor in tensors.items()} | {"scaled_fp8": torch.zeros(marker, dtype=E4M3)}
    for name in matrices:
        scale = tensors[name].abs().max() / LARGEST
        made[name] = (tensors[name] / scale).to(E4M3)
        made[f"{name.removesuffix('.weight')}.scale_weight"] = scale
    return made


def transformer_gguf(path: Path, tensors: Mapping[str, Tensor], mixture: Quantized) -> None:
    """The matrices of the blocks quantized; what is small, the modulations and the patches F32; all else F16."""
    file_type, most, some = MIXTURES[mixture]

    def kind(name: str, tensor: Tensor) -> Kind:
        if name.startswith("blocks.") and tensor.ndim == 2:
            return some if name.endswith(_MORE_BITS) else most
        wide = tensor.ndim == 1 or tensor.numel() <= 1024 or name.endswith(".modulation")
        return "F32" if wide or name == "patch_embedding.weight" else "F16"

    write_gguf(path, "wan", file_type, ((name, tensor, kind(name, tensor)) for name, tensor in tensors.items()))


def text_gguf(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """By llama.cpp's names: matrices in Q8_0, norms and positions F32."""

    def kind(name: str, tensor: Tensor) -> Kind:
        return "Q8_0" if tensor.ndim == 2 and "attn_rel_b" not in name else "F32"

    entries = ((name, tensor, kind(name, tensor)) for name, tensor in tensors.items())
    write_gguf(path, "t5encoder", LlamaFileType.MOSTLY_Q8_0, entries)
