"""The values of made-up Wan2.1 weights: each tensor's noise is seeded by its name, so anybody can make it again."""

import math
import zlib

import torch
from torch import Tensor

_TABLES = ("modulation", "cls_embedding", "pos_embedding", "emb_pos")


def tensor_by_rule(name: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor in float32, of a size that keeps activations of order one. Wan2.1's goldens were made with the same.

    name: in the original checkpoint; CLIP's with its prefix `visual.`.
    """
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    leaf = name.rpartition(".")[2]
    if leaf == "gamma" or (leaf == "weight" and len(shape) == 1):
        return 1 + 0.1 * noise
    if leaf in _TABLES:
        return 0.3 * noise
    if len(shape) >= 2:
        return noise / math.sqrt(math.prod(shape[1:]))
    return 0.02 * noise
