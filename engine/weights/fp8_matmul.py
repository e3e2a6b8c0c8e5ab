"""Matrix products in fp8, which cards from Ada on compute at twice the speed of 16 bits.

The activations are rounded to e4m3 with a scale of their own for each row, so that a row's largest value is e4m3's:
two to three hundredths of each value's size are lost, as of the weights.
"""

import torch
from torch import Tensor

LARGEST = torch.finfo(torch.float8_e4m3fn).max
_LEAST_CAPABILITY = (8, 9)
_MULTIPLE = 16  # of both sizes of the weight, as the product's kernels want them


def can_multiply(x: Tensor, outputs: int) -> bool:
    """Whether there is such a product for x (..., in) and a weight of `outputs` rows on the device of x."""
    if x.shape[-1] % _MULTIPLE or outputs % _MULTIPLE:
        return False
    return x.device.type != "cuda" or torch.cuda.get_device_capability(x.device) >= _LEAST_CAPABILITY


def multiply(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """x (..., in), weight (out, in) in e4m3, scale (1, 1) or (out, 1) of its rows in float32 -> (..., out) like x."""
    rows, steps = quantize(x.flatten(0, -2))
    scales = torch.ones(1, 1, device=x.device) if scale is None else scale
    scales = scales.expand(len(weight), 1).t().contiguous()
    # bfloat16 is the only result that products scaled by rows have
    y = torch._scaled_mm(rows, weight.t(), scale_a=steps, scale_b=scales, out_dtype=torch.bfloat16).to(x.dtype)
    if bias is not None:
        y += bias
    return y.view(*x.shape[:-1], len(weight))


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, in) -> e4m3 (N, in) and float32 (N, 1) whose product is nearly x."""
    least = 2 * LARGEST / torch.finfo(x.dtype).max  # so that the factor is finite
    largest = torch.linalg.vector_norm(x, float("inf"), dim=1, keepdim=True, dtype=torch.float32).clamp_min(least)
    factor = (LARGEST / largest).to(x.dtype)  # rounded first, for only then its inverse undoes it
    return (x * factor).clamp_(-LARGEST, LARGEST).to(torch.float8_e4m3fn), 1 / factor.float()
