"""Writes GGUF files, each tensor in its own type."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import quantize
from torch import Tensor

from builder.tiny import k_quants

Kind = Literal["F32", "F16", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
_PLAIN = {"F32": np.float32, "F16": np.float16}


def write_gguf(
    path: Path, architecture: str, file_type: LlamaFileType, entries: Iterable[tuple[str, Tensor, Kind]]
) -> None:
    """Tensors by name, and three fields of metadata."""
    writer = GGUFWriter(path, architecture)
    writer.add_quantization_version(2)
    writer.add_file_type(file_type)
    for name, tensor, kind in entries:
        if kind == "F32" or kind == "F16":
            writer.add_tensor(name, tensor.numpy().astype(_PLAIN[kind]))
        elif kind == "Q8_0":
            writer.add_tensor(
                name, quantize(tensor.numpy(), GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0
            )
        else:
            writer.add_tensor(name, k_quants.quantize(tensor, kind).numpy(), raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
