"""Goldens of ggml's block types: `TYPE.raw`, bytes of rows, and `TYPE.out_f32`, the numbers they stand for."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.weights.quants import BLOCK_TYPES, dequantize
from tests.parity.rows import Row, exact, kind


@kind("gguf_blocks")
def blocks(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every type of the golden must be one that we read, and every number the same to the bit."""
    for kind_name in sorted(key.removesuffix(".raw") for key in tensors if key.endswith(".raw")):
        raw, wanted = tensors[f"{kind_name}.raw"], tensors[f"{kind_name}.out_f32"]
        if kind_name == "BF16":
            got = raw.view(torch.bfloat16).float()
        else:
            block = BLOCK_TYPES[kind_name]
            got = dequantize(raw.view(-1, block.nbytes), block, torch.float32).view(wanted.shape)
        yield exact(f"{name} {kind_name}", torch.equal(got.view(torch.int32), wanted.view(torch.int32)))
