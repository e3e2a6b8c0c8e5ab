"""Writes named tensors as the published files hold them: which precision for which tensor, in which container."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from gguf import LlamaFileType
from safetensors.torch import save_file
from torch import Tensor

from builder.tiny.gguf_file import Kind, write_gguf

Precision = Literal["F32", "F16", "F8_E4M3", "mixed", "Q8_0", "Q4_K"]
FILE_TYPES = {"Q8_0": LlamaFileType.MOSTLY_Q8_0, "Q4_K": LlamaFileType.MOSTLY_Q4_K_M}


def write(path: Path, tensors: Mapping[str, Tensor], precision: Precision) -> None:
    """Write float32 `tensors`; those that are bfloat16 stay so. The path's suffix says the container."""
    if path.suffix == ".gguf":
        assert precision == "Q8_0" or precision == "Q4_K"
        _write_gguf(path, tensors, precision)
    elif path.suffix == ".pth":
        torch.save(dict(tensors), path)
    else:
        last = f"blocks.{_last_block(tensors)}." if precision == "mixed" else None
        save_file({name: _cast(name, tensor, precision, last) for name, tensor in tensors.items()}, path)


def _cast(name: str, tensor: Tensor, precision: Precision, last: str | None) -> Tensor:
    if tensor.dtype == torch.bfloat16:
        return tensor
    if precision == "F16" or (last is not None and name.startswith(last)):
        return tensor.half()
    return tensor.to(torch.float8_e4m3fn)


def _last_block(tensors: Mapping[str, Tensor]) -> int:
    return max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))


def _write_gguf(path: Path, tensors: Mapping[str, Tensor], precision: Literal["Q8_0", "Q4_K"]) -> None:
    """The matrices of the blocks in one quantized type, all else float16."""
    kinds: dict[str, Kind] = {
        name: precision if name.startswith("blocks.") and tensor.ndim == 2 else "F16"
        for name, tensor in tensors.items()
    }
    write_gguf(path, "seedvr", FILE_TYPES[precision], ((name, tensors[name], kind) for name, kind in kinds.items()))
