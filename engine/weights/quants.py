"""Blocks of a few bits a value -> numbers, on whichever device the blocks lie.

The types are those of ggml (ggml-common.h says what lies in a block, ggml-quants.c what it means). All arithmetic is
float32, in the order of the published one and without fused steps, so that results equal it to the bit; other dtypes
are rounded from that once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockType:
    """`elements` neighbouring values of a row in `nbytes` bytes. unpack: (N, nbytes) -> float32 (N, elements)."""

    name: str
    elements: int
    nbytes: int
    unpack: Callable[[Tensor], Tensor]


def dequantize(packed: Tensor, block: BlockType, dtype: torch.dtype) -> Tensor:
    """(N, nbytes) blocks, uint8 -> (N, elements)."""
    return block.unpack(packed).to(dtype)


def _half(b: Tensor, start: int) -> Tensor:  # (N, nbytes) -> (N, 1)
    return b[:, start : start + 2].view(torch.float16).float()


def _nibbles(b: Tensor, width: int) -> Tensor:
    """(N, G * width) bytes -> (N, G, 2, width): the low halves of `width` bytes, then their high halves."""
    groups = b.reshape(len(b), -1, 1, width)
    return torch.cat((groups & 15, groups >> 4), dim=2)


def _shifted(b: Tensor, shifts: range) -> Tensor:
    """(N, G, 1, width) bytes -> (N, G, len(shifts), width), moved down by so many bits each."""
    bits = torch.arange(shifts.start, shifts.stop, shifts.step, dtype=torch.uint8, device=b.device)
    return b >> bits.view(-1, 1)


def _q8_0(b: Tensor) -> Tensor:
    return b[:, 2:].view(torch.int8) * _half(b, 0)


def _q4_0(b: Tensor) -> Tensor:
    return (_nibbles(b[:, 2:], 16).flatten(1).view(torch.int8) - 8) * _half(b, 0)


def _q4_1(b: Tensor) -> Tensor:
    return (_nibbles(b[:, 4:], 16).flatten(1) * _half(b, 0)).add_(_half(b, 2))


def _five_bits(b: Tensor) -> Tensor:
    """(N, 4 + 16) bytes -> (N, 32): the fifth bits of all values, then nibbles."""
    fifth = _shifted(b[:, :4].reshape(-1, 4, 1, 1), range(8)) & 1  # (N, 4, 8, 1): bit j belongs to value j
    return _nibbles(b[:, 4:], 16).flatten(1) | fifth.flatten(1) << 4


def _q5_0(b: Tensor) -> Tensor:
    return (_five_bits(b[:, 2:]).view(torch.int8) - 16) * _half(b, 0)


def _q5_1(b: Tensor) -> Tensor:
    return (_five_bits(b[:, 4:]) * _half(b, 0)).add_(_half(b, 2))


def _scales_and_minima(b: Tensor) -> tuple[Tensor, Tensor]:
    """The head of Q4_K and Q5_K, (N, 16+) bytes -> scale and minimum of each of the 8 groups, (N, 8, 1)."""
    first, second, rest = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scales = torch.cat((first & 63, rest & 15 | first >> 6 << 4), dim=1)
    minima = torch.cat((second & 63, rest >> 4 | second >> 6 << 4), dim=1)
    return (scales * _half(b, 0)).unsqueeze(2), (minima * _half(b, 2)).unsqueeze(2)


def _q4_k(b: Tensor) -> Tensor:
    scales, minima = _scales_and_minima(b)
    return (_nibbles(b[:, 16:], 32).flatten(1, 2) * scales).sub_(minima).flatten(1)


def _q5_k(b: Tensor) -> Tensor:
    scales, minima = _scales_and_minima(b)
    fifth = _shifted(b[:, 16:48].reshape(-1, 1, 1, 32), range(8)).squeeze(1) & 1  # (N, 8, 32)
    q = _nibbles(b[:, 48:], 32).flatten(1, 2) | fifth << 4
    return (q * scales).sub_(minima).flatten(1)


def _q6_k(b: Tensor) -> Tensor:
    upper = _shifted(b[:, 128:192].reshape(-1, 2, 1, 32), range(0, 8, 2)) & 3  # (N, 2, 4, 32)
    q = _nibbles(b[:, :128], 64).flatten(1) | upper.flatten(1) << 4
    scales = b[:, 192:208].view(torch.int8) * _half(b, 208)
    return ((q.view(torch.int8) - 32).view(-1, 16, 16) * scales.unsqueeze(2)).flatten(1)


def _q2_k(b: Tensor) -> Tensor:
    scales, minima = (b[:, :16] & 15) * _half(b, 80), (b[:, :16] >> 4) * _half(b, 82)
    return (_two_bits(b[:, 16:80]).view(-1, 16, 16) * scales.unsqueeze(2)).sub_(minima.unsqueeze(2)).flatten(1)


def _q3_k(b: Tensor) -> Tensor:
    clear = _shifted(b[:, :32].reshape(-1, 1, 1, 32), range(8)) & 1 ^ 1  # a third bit that is set takes nothing off
    q = _two_bits(b[:, 32:96]).view(torch.int8) - (clear << 2).flatten(1).view(torch.int8)
    low = _nibbles(b[:, 96:104], 8).flatten(1)
    high = _shifted(b[:, 104:108].reshape(-1, 1, 1, 4), range(0, 8, 2)).flatten(1) & 3
    scales = ((low | high << 4).view(torch.int8) - 32) * _half(b, 108)
    return (q.view(-1, 16, 16) * scales.unsqueeze(2)).flatten(1)


def _two_bits(b: Tensor) -> Tensor:
    """(N, 64) bytes -> (N, 256): of each 32 bytes the lowest pairs of bits, then the next."""
    return (_shifted(b.reshape(-1, 2, 1, 32), range(0, 8, 2)) & 3).flatten(1)


BLOCK_TYPES = {
    block.name: block
    for block in (
        BlockType("Q4_0", 32, 18, _q4_0),
        BlockType("Q4_1", 32, 20, _q4_1),
        BlockType("Q5_0", 32, 22, _q5_0),
        BlockType("Q5_1", 32, 24, _q5_1),
        BlockType("Q8_0", 32, 34, _q8_0),
        BlockType("Q2_K", 256, 84, _q2_k),
        BlockType("Q3_K", 256, 110, _q3_k),
        BlockType("Q4_K", 256, 144, _q4_k),
        BlockType("Q5_K", 256, 176, _q5_k),
        BlockType("Q6_K", 256, 210, _q6_k),
    )
}
