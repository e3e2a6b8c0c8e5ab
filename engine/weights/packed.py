"""Linear layers whose weight stays as small as it was stored and becomes numbers when it is used."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.weights.quants import BlockType, dequantize


class PackedLinear(nn.Module):
    """x @ weight.T + bias, the weight being one byte or less a value: fp8 without a scale, or blocks.

    packed: uint8, so that no change of the module's dtype reaches it: (N, bytes of a block), or (out, in) fp8.
    """

    packed: Tensor

    def __init__(self, linear: nn.Linear, form: torch.dtype | BlockType) -> None:
        super().__init__()
        self.in_features, self.out_features, self.form = linear.in_features, linear.out_features, form
        self.bias = linear.bias
        self.register_buffer("packed", torch.empty(0, dtype=torch.uint8, device="meta"))
        self.keep = False
        self._kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight(x.dtype), bias)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """(out, in)"""
        if self._kept is not None and self._kept.dtype == dtype:
            return self._kept
        if isinstance(self.form, torch.dtype):
            weight = self.packed.view(self.form).to(dtype)
        else:
            weight = dequantize(self.packed, self.form, dtype).view(self.out_features, self.in_features)
        if self.keep:
            self._kept = weight
        return weight

    def release(self) -> None:
        """Let go of a weight that was kept."""
        self.keep, self._kept = False, None

    def extra_repr(self) -> str:
        form = self.form.name if isinstance(self.form, BlockType) else self.form
        return f"in_features={self.in_features}, out_features={self.out_features}, form={form}"


def unpack_once(module: nn.Module) -> None:
    """From now on, within one call of `module` each packed weight in it becomes numbers once, however often it is used.

    They are let go when the call ends, or breaks off.
    """
    packed = [layer for layer in module.modules() if isinstance(layer, PackedLinear)]

    def keep(*_: Any) -> None:
        for layer in packed:
            layer.keep = True

    def release(*_: Any) -> None:
        for layer in packed:
            layer.release()

    if packed:
        module.register_forward_pre_hook(keep)
        module.register_forward_hook(release, always_call=True)
