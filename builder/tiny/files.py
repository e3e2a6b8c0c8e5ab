"""Writes named tensors as the published files hold them: which precision for which tensor, in which container."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import quantize
from safetensors.torch import save_file
from torch import Tensor

from builder.tiny import q4_k

Precision = Literal["F32", "F16", "F8_E4M3", "mixed", "Q8_0", "Q4_K"]
FILE_TYPES = {"Q8_0": LlamaFileType.MOSTLY_Q8_0, "Q4_K": LlamaFileType.MOSTLY_Q4_K_M}


def write(path: Path, tensors: Mapping[str, Tensor], precision: Precision) -> None:
    """Write float32 `tensors`; those that are bfloat16 stay so. The path's suffix says the container."""
    if path.suffix == ".gguf":
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


def _write_gguf(path: Path, tensors: Mapping[str, Tensor], precision: Precision) -> None:
    """The matrices of the blocks in one quantized type, all else float16; three fields of metadata."""
    writer = GGUFWriter(path, "seedvr")
    writer.add_quantization_version(2)
    writer.add_file_type(FILE_TYPES[precision])
    kind = GGMLQuantizationType[precision]
    for name, tensor in tensors.items():
        if name.startswith("blocks.") and tensor.ndim == 2:
            blocks = q4_k.quantize(tensor).numpy() if precision == "Q4_K" else quantize(tensor.numpy(), kind)
            writer.add_tensor(name, blocks, raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor.numpy().astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
