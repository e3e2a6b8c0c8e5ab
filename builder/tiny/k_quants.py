"""Numbers -> ggml's K blocks of 256 values, plainly: the `gguf` package reads these types but does not write them.

Q4_K and Q5_K: 8 groups, d * scale * q - dmin * minimum with q of 4 or 5 bits, scale and minimum of 6. Q6_K: 16 groups,
d * scale * (q - 32) with q of 6 bits, scale of 8. Layouts: ggml-common.h, block_q4_K and so on.
"""

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["Q4_K", "Q5_K", "Q6_K"]
BLOCK = 256
GROUPS, GROUP = 8, 32


def quantize(x: Tensor, kind: Kind) -> Tensor:
    """(..., W), W in multiples of 256 -> uint8 (..., bytes)."""
    blocks = x.float().reshape(-1, BLOCK)
    packed = _q6_k(blocks) if kind == "Q6_K" else _with_minima(blocks, bits=4 if kind == "Q4_K" else 5)
    return packed.view(*x.shape[:-1], -1)


def _with_minima(blocks: Tensor, bits: int) -> Tensor:
    most = 2**bits - 1
    groups = blocks.view(-1, GROUPS, GROUP)
    low = groups.amin(2).clamp_max(0)
    d, scales = _six_bits((groups.amax(2) - low) / most)
    dmin, minima = _six_bits(-low)
    step, offset = (d.float() * scales).unsqueeze(2), (dmin.float() * minima).unsqueeze(2)
    q = ((groups + offset) / step.clamp_min(1e-30)).round().clamp(0, most).to(torch.uint8)
    halves = torch.cat((d, dmin), dim=1).view(torch.uint8)
    places = torch.arange(GROUPS, dtype=torch.uint8).view(-1, 1)
    fifth = [((q >> 4) << places).sum(1, dtype=torch.uint8)] if bits == 5 else []
    pairs = (q & 15).view(-1, GROUPS // 2, 2, GROUP)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).flatten(1)
    return torch.cat((halves, _packed(scales, minima), *fifth, nibbles), dim=1)


def _six_bits(values: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 8) of 0 or more -> float16 (N, 1) steps and (N, 8) multiples of them, 0 to 63."""
    step = (values.amax(1, keepdim=True) / 63).half()
    return step, (values / step.float().clamp_min(1e-30)).round().clamp(0, 63).to(torch.uint8)


def _packed(scales: Tensor, minima: Tensor) -> Tensor:
    """Twice (N, 8) of 6 bits -> (N, 12): the upper two bits of the last four lie on top of the first four."""
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = minima[:, :4] | minima[:, 4:] >> 4 << 6
    return torch.cat((first, second, scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4), dim=1)


def _q6_k(blocks: Tensor) -> Tensor:
    groups = blocks.view(-1, 16, 16)
    steps = groups.abs().amax(2) / 31
    d = (steps.amax(1, keepdim=True) / 127).half()
    scales = (steps / d.float().clamp_min(1e-30)).round().clamp(0, 127)
    step = (d.float() * scales).unsqueeze(2).clamp_min(1e-30)
    q = ((groups / step).round().clamp(-32, 31) + 32).to(torch.uint8).flatten(1)
    halves = (q & 15).view(-1, 2, 2, 64)
    low = (halves[:, :, 0] | halves[:, :, 1] << 4).flatten(1)
    places = torch.arange(0, 8, 2, dtype=torch.uint8).view(-1, 1)
    high = ((q >> 4).view(-1, 2, 4, 32) << places).sum(2, dtype=torch.uint8).flatten(1)
    return torch.cat((low, high, scales.to(torch.int8).view(torch.uint8), d.view(torch.uint8)), dim=1)
