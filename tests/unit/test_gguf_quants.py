"""Numbers from blocks, judged by the `gguf` package."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize as published
from torch import Tensor

from engine.weights.quants import BLOCK_TYPES, BlockType, dequantize

ODD_HALVES = (0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x3555)
# where a block keeps its float16 scales
HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "Q4_0": (0,), "Q5_0": (0,), "Q8_0": (0,)}


def random_blocks(block: BlockType, count: int = 512) -> Tensor:
    """Every bit at random, and every odd scale in turn: signed zeros, the smallest numbers, the largest."""
    seed = torch.Generator().manual_seed(block.nbytes)
    blocks = torch.randint(0, 256, (count, block.nbytes), generator=seed, dtype=torch.uint8)
    for at in HALVES.get(block.name, (0, 2)):
        odd = np.random.default_rng(at).choice(np.array(ODD_HALVES, np.uint16), (count // 2, 1))
        blocks[: count // 2, at : at + 2] = torch.from_numpy(odd.view(np.uint8))
    return blocks


@pytest.mark.parametrize("block", BLOCK_TYPES.values(), ids=lambda block: block.name)
def test_numbers_equal_the_published_ones_to_the_bit(block: BlockType) -> None:
    packed = random_blocks(block)
    with np.errstate(invalid="ignore"):  # among random scales are infinities
        wanted = torch.from_numpy(published(packed.numpy(), GGMLQuantizationType[block.name]))
    got = dequantize(packed, block, torch.float32)
    assert got.shape == (512, block.elements)
    numbers = ~wanted.isnan()
    assert numbers.float().mean() > 0.9
    assert torch.equal(got.view(torch.int32)[numbers], wanted.view(torch.int32)[numbers])
    assert got[~numbers].isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_are_rounded_once(dtype: torch.dtype) -> None:
    block = BLOCK_TYPES["Q4_K"]
    packed = random_blocks(block)
    exact = dequantize(packed, block, torch.float32)
    assert torch.equal(dequantize(packed, block, dtype).nan_to_num(), exact.to(dtype).nan_to_num())
