"""Weights that were divided by a scale to fit fp8: the scale that lies beside each in a file becomes part of it.

Names of the two generations of ComfyUI's files, and of LightX2V's, which have a scale for each output channel.
"""

from collections.abc import Mapping
from dataclasses import replace

from engine.weights.stored import Stored

_SCALES = ("scale_weight", "weight_scale")
# How activations would be quantized, and what the layer's format is called: the weight's own dtype tells that.
_ASIDE = ("scale_input", "input_scale", "comfy_quant")
_MARKER = "scaled_fp8"
_MARKER_SIZES = (0, 2)


def fold_scales(weights: Mapping[str, Stored]) -> dict[str, Stored]:
    """The same without scales, markers and notes, each weight having its scale.

    Raises ValueError for a scale without a weight or of another shape.
    """
    folded: dict[str, Stored] = {}
    scales: dict[str, Stored] = {}
    for name, stored in weights.items():
        layer, _, leaf = name.rpartition(".")
        weight = f"{layer}.weight"
        if leaf in _SCALES:
            if scales.setdefault(weight, stored) is not stored:
                raise ValueError(f"{weight} has two scales")
            continue
        aside = leaf in _ASIDE and weight in weights
        marker = leaf == _MARKER and stored.shape.numel() in _MARKER_SIZES
        if not (aside or marker):
            folded[name] = stored
    for weight, scale in scales.items():
        folded[weight] = _scaled(weight, folded.get(weight), scale)
    return folded


def _scaled(name: str, weight: Stored | None, scale: Stored) -> Stored:
    if weight is None:
        raise ValueError(f"there is a scale for {name}, and no {name}")
    count = scale.shape.numel()
    rows = count == weight.shape[0] and scale.shape in ((count,), (count, 1))
    if not (count == 1 or rows) or not scale.dtype.is_floating_point:
        raise ValueError(f"the scale of {name}, {tuple(weight.shape)}, is {tuple(scale.shape)} of {scale.dtype}")
    return replace(weight, scale=scale)
