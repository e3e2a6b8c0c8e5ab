"""Lab correction: after the wavelet's, a and b get the style's distribution, and lightness a fifth of it.

CIE L*a*b* under D65 from sRGB (IEC 61966-2-1). Statistics are of the whole slice.
"""

import torch
from torch import Tensor

from engine.pipelines.color.pieces import pieces
from engine.pipelines.color.ranks import ascending, match
from engine.pipelines.color.wavelet import reconstruct

Weights = tuple[float, float, float]

WHITE: Weights = (0.95047, 1.0, 1.08883)
TO_XYZ: tuple[Weights, Weights, Weights] = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
FROM_XYZ: tuple[Weights, Weights, Weights] = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
KNEE = 6 / 29
SLOPE = (29 / 3) ** 3
LIGHTNESS_FROM_STYLE = 0.2


def match_lab(content: Tensor, style: Tensor, out: Tensor) -> None:
    """(T, 3, H, W) of any float type -> float32 `out`, each channel of which is contiguous."""
    for t in range(len(content)):
        reconstruct(content[t], style[t], out[t])
    for t, rows in pieces(out):
        out[t, :, rows] = _lab(out[t, :, rows])
    for channel, share in enumerate((LIGHTNESS_FROM_STYLE, 1.0, 1.0)):
        plane = out[:, channel].view(-1)
        plane.lerp_(match(plane, ascending(_plane(style, channel))), share)
    for t, rows in pieces(out):
        out[t, :, rows] = _rgb(out[t, :, rows])


def _plane(rgb: Tensor, channel: int) -> Tensor:
    """One of L, a and b of (T, 3, H, W), flat."""
    frames, _, height, width = rgb.shape
    plane = torch.empty(frames, height, width, device=rgb.device)
    for t, rows in pieces(rgb):
        plane[t, rows] = _channel(_linear(rgb[t, :, rows].float()), channel)
    return plane.view(-1)


def _lab(rgb: Tensor) -> Tensor:
    """(3, h, w) of (3, h, w) in [-1, 1]."""
    linear = _linear(rgb)
    return torch.stack([_channel(linear, channel) for channel in range(3)])


def _linear(rgb: Tensor) -> Tensor:
    """Light of (3, h, w) in [-1, 1]."""
    v = ((rgb + 1) / 2).clamp_(0, 1)
    return torch.where(v > 0.04045, ((v + 0.055) / 1.055).pow_(2.4), v / 12.92)


def _channel(linear: Tensor, channel: int) -> Tensor:
    """L, a or b (h, w) of light (3, h, w)."""
    y = _response(linear, 1)
    if channel == 0:
        return y.mul_(116).sub_(16)
    return (_response(linear, 0) - y).mul_(500) if channel == 1 else (y - _response(linear, 2)).mul_(200)


def _response(linear: Tensor, axis: int) -> Tensor:
    """The cube root, straight near black, of X, Y or Z relative to white."""
    v = _weigh(linear, TO_XYZ[axis]).div_(WHITE[axis])
    return torch.where(v > KNEE**3, v.pow(1 / 3), (v * SLOPE).add_(16).div_(116))


def _rgb(lab: Tensor) -> Tensor:
    """(3, h, w) in [-1, 1] of L, a and b."""
    y = (lab[0] + 16) / 116
    f = torch.stack((lab[1] / 500 + y, y, y - lab[2] / 200))
    xyz = torch.where(f > KNEE, f.pow(3), (f * 116).sub_(16).div_(SLOPE))
    for axis, white in zip(xyz, WHITE, strict=True):
        axis.mul_(white)
    v = torch.stack([_weigh(xyz, weights) for weights in FROM_XYZ])
    v = torch.where(v > 0.0031308, v.pow(1 / 2.4).mul_(1.055).sub_(0.055), v * 12.92)
    return v.clamp_(0, 1).mul_(2).sub_(1)


def _weigh(planes: Tensor, weights: Weights) -> Tensor:
    return (planes[0] * weights[0]).add_(planes[1], alpha=weights[1]).add_(planes[2], alpha=weights[2])
