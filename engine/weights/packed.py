"""Linear layers whose weight stays as small as it was stored and becomes numbers when it is used."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.weights.fp8_matmul import can_multiply, multiply
from engine.weights.quants import BlockType, dequantize


class PackedLinear(nn.Module):
    """x @ weight.T + bias, the weight being one byte or less a value: fp8, with a scale or without, or blocks.

    packed, scale_bytes: uint8, so that no change of the module's dtype reaches them: (N, bytes of a block) or (out, in)
    of fp8; and (1 or out, 4), the bytes of a float32, or None.
    fp8_matmul: multiply in fp8 where the device can, rounding the activations to it: faster, and an approximation.
    """

    packed: Tensor
    scale_bytes: Tensor | None
    down: Tensor | None
    up: Tensor | None

    def __init__(self, linear: nn.Linear, form: torch.dtype | BlockType) -> None:
        super().__init__()
        self.in_features, self.out_features, self.form = linear.in_features, linear.out_features, form
        self.bias = linear.bias
        self.register_buffer("packed", torch.empty(0, dtype=torch.uint8, device="meta"))
        for name in ("scale_bytes", "down", "up"):
            self.register_buffer(name, None)
        self.fp8_matmul = False
        self.keep = False
        self._kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if not self.fp8_matmul or self.form != torch.float8_e4m3fn or not can_multiply(x, self.out_features):
            return F.linear(x, self.weight(x.dtype), bias)
        y = multiply(x, self.packed.view(self.form), self.scale, bias)
        return y if self.side is None else y + F.linear(F.linear(x, self.side[0].to(x.dtype)), self.side[1].to(x.dtype))

    @property
    def scale(self) -> Tensor | None:
        """(1, 1) or (out, 1) in float32: what the packed numbers are multiplied by."""
        return None if self.scale_bytes is None else self.scale_bytes.view(torch.float32)

    @scale.setter
    def scale(self, scale: Tensor) -> None:
        self.scale_bytes = scale.float().contiguous().view(torch.uint8)

    @property
    def side(self) -> tuple[Tensor, Tensor] | None:
        """What is added to the packed weight: up @ down, (r, in) and (out, r)."""
        return None if self.down is None or self.up is None else (self.down, self.up)

    @side.setter
    def side(self, side: tuple[Tensor, Tensor]) -> None:
        self.down, self.up = side

    def weight(self, dtype: torch.dtype) -> Tensor:
        """(out, in)"""
        if self._kept is not None and self._kept.dtype == dtype:
            return self._kept
        weight = self._numbers(dtype)
        if self.side is not None:
            down, up = self.side
            weight = weight.addmm_(up.to(dtype), down.to(dtype))
        if self.keep:
            self._kept = weight
        return weight

    def _numbers(self, dtype: torch.dtype) -> Tensor:
        """The packed weight in numbers of its own memory."""
        if not isinstance(self.form, torch.dtype):
            return dequantize(self.packed, self.form, dtype).view(self.out_features, self.in_features)
        weight = self.packed.view(self.form).to(dtype)
        # A scale of two dimensions keeps the product in float32, rounded once to the weight's dtype.
        return weight if self.scale is None else weight.mul_(self.scale)

    def release(self) -> None:
        """Let go of a weight that was kept."""
        self.keep, self._kept = False, None

    def extra_repr(self) -> str:
        form = self.form.name if isinstance(self.form, BlockType) else self.form
        return f"in_features={self.in_features}, out_features={self.out_features}, form={form}"


def is_packed(module: nn.Module) -> bool:
    """Whether any layer in it is."""
    return any(isinstance(layer, PackedLinear) for layer in module.modules())


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
