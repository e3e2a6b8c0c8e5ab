"""Weights that anybody can make again: each tensor's noise is seeded by its name, as in SeedVR2's goldens."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from builder.tiny.weights import tensor_by_rule
from tests.parity.rows import Row, exact

ROTARY = "rope.freqs"  # keep the formula's values, and are no weights of ours


def weights_by_rule(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A float32 tensor for each name of `shapes`, rotary tables left out."""
    return {name: tensor_by_rule(name, tuple(shape)) for name, shape in shapes.items() if not name.endswith(ROTARY)}


def check_weights(name: str, weights: Mapping[str, Tensor], told: Mapping[str, Any]) -> Row:
    """Whether all sums and first values that a sidecar's table `weights_check` tells are those of `weights`."""
    ours = {key: facts for key, facts in told.items() if not key.endswith(ROTARY)}
    return exact(f"{name} weights", all(_agrees(weights[key], facts) for key, facts in ours.items()))


def _agrees(weight: Tensor, facts: Mapping[str, Any]) -> bool:
    w, limit = weight.double(), 1e-6 * facts["abssum"]
    first = w.flatten()[: len(facts["first"])] - torch.tensor(facts["first"], dtype=torch.float64)
    sums = abs(w.sum().item() - facts["sum"]) <= limit and abs(w.abs().sum().item() - facts["abssum"]) <= limit
    return list(w.shape) == facts["shape"] and sums and bool((first.abs() <= 1e-6).all())
