"""Colour corrections: what a network made (`content`) gets colours from what it was given (`style`).

Six of upstream's methods, always in float32. A slice of several frames is one population: the same frames in other
slices may come out differently with lab, hsv and wavelet_adaptive.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from engine.pipelines.color.hsv import adaptive, match_saturation
from engine.pipelines.color.lab import match_lab
from engine.pipelines.color.memory import color_bytes
from engine.pipelines.color.wavelet import reconstruct

__all__ = ["METHODS", "Method", "color_bytes", "correct"]

Method = Literal["lab", "wavelet", "wavelet_adaptive", "hsv", "adain", "none"]
METHODS: tuple[Method, ...] = get_args(Method)


def correct(content: Tensor, style: Tensor, method: Method) -> Tensor:
    """(T, 3, H, W) in about [-1, 1], of any float type, and its like -> float32. Reads both and changes neither.

    The result lies in [-1, 1], but for adain's and none's. In memory each of its channels is one block.
    """
    if content.shape != style.shape:
        raise ValueError(f"content {tuple(content.shape)} and style {tuple(style.shape)} differ in shape")
    frames, channels, height, width = content.shape
    out = torch.empty(channels, frames, height, width, device=content.device).transpose(0, 1)
    match method:
        case "lab":
            match_lab(content, style, out)
        case "hsv":
            match_saturation(content, style, out)
        case "wavelet_adaptive":
            adaptive(content, style, out)
        case "none":
            out.copy_(content)
        case _:
            one = reconstruct if method == "wavelet" else adain
            for t in range(frames):
                one(content[t], style[t], out[t])
    return out


def adain(content: Tensor, style: Tensor, out: Tensor) -> Tensor:
    """Give each channel of one frame the style's mean and deviation: (3, H, W) of any float type -> float32 `out`."""
    for channel, like, plane in zip(content, style, out, strict=True):
        (mean, deviation), (wanted, spread) = _moments(channel), _moments(like)
        plane.copy_(channel).sub_(mean).mul_(spread / deviation).add_(wanted)
    return out


def _moments(plane: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(plane.float())
    return mean, variance.add_(1e-5).sqrt_()
