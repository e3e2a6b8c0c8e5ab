"""Parts that several transformers share."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear_float32(linear: nn.Module, x: Tensor) -> Tensor:
    """A linear layer in float32 whatever its weights are stored in, for what is small or runs once."""
    if isinstance(linear, nn.Linear):
        return F.linear(x.float(), linear.weight.float(), linear.bias.float())
    out: Tensor = linear(x.float())
    return out


def gelu_(x: Tensor) -> Tensor:
    """The tanh form of GELU, in place."""
    return torch.ops.aten.gelu_(x, approximate="tanh")  # type: ignore[no-any-return]
