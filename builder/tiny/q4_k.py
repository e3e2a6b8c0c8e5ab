"""Numbers -> ggml's Q4_K blocks, plainly: the `gguf` package reads this type but does not write it.

A block is 256 values in 8 groups; a group's values are d * scale * q - dmin * minimum with q of 4 bits, scale and
minimum of 6. Layout: ggml-common.h, block_q4_K.
"""

import torch
from torch import Tensor

GROUPS, GROUP = 8, 32


def quantize(x: Tensor) -> Tensor:
    """(..., W), W in multiples of 256 -> uint8 (..., W / 256 * 144)."""
    groups = x.float().reshape(-1, GROUPS, GROUP)
    low = groups.amin(2).clamp_max(0)
    d, scales = _six_bits((groups.amax(2) - low) / 15)
    dmin, minima = _six_bits(-low)
    step, offset = (d.float() * scales).unsqueeze(2), (dmin.float() * minima).unsqueeze(2)
    q = ((groups + offset) / step.clamp_min(1e-30)).round().clamp(0, 15).to(torch.uint8)
    pairs = q.view(-1, GROUPS // 2, 2, GROUP)
    halves = torch.cat((d, dmin), dim=1).view(torch.uint8)
    packed = torch.cat((halves, _packed(scales, minima), (pairs[:, :, 0] | pairs[:, :, 1] << 4).flatten(1)), dim=1)
    return packed.view(*x.shape[:-1], -1)


def _six_bits(values: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 8) of 0 or more -> float16 (N, 1) steps and (N, 8) multiples of them, 0 to 63."""
    step = (values.amax(1, keepdim=True) / 63).half()
    return step, (values / step.float().clamp_min(1e-30)).round().clamp(0, 63).to(torch.uint8)


def _packed(scales: Tensor, minima: Tensor) -> Tensor:
    """Twice (N, 8) of 6 bits -> (N, 12): the upper two bits of the last four lie on top of the first four."""
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = minima[:, :4] | minima[:, 4:] >> 4 << 6
    return torch.cat((first, second, scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4), dim=1)
