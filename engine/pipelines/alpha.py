"""Alpha of enlarged pictures: enlarged itself, then led along the edges of the colours that a network made.

Soft alpha is smoothed by a guided filter (He et al., 2010). A mask, all but opaque or clear, is made crisp again near
the colours' edges. Two steps of upstream depend on whether any colour is below zero, and so do ours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.pipelines.frames import resize

MASK_SHARE = 0.95  # of pixels below 0.1 or above 0.9
EPSILON = 0.002


def enlarge_alpha(alpha: Tensor, rgb: Tensor) -> Tensor:
    """(T, 1, h, w) in [0, 1] and the slice's colours (T, 3, H, W) in about [-1, 1], not yet corrected -> (T, 1, H, W).

    Waits for the device once, to learn whether alpha is a mask.
    """
    mask = bool(((alpha < 0.1) | (alpha > 0.9)).float().mean() > MASK_SHARE)
    offset = _offset(rgb)
    out = torch.empty(len(rgb), 1, *rgb.shape[2:], device=rgb.device)
    for t in range(len(rgb)):
        large = resize(alpha[t : t + 1].float(), *rgb.shape[2:])[0, 0].clamp(0, 1)
        colour = _to_unit(rgb[t].float(), offset)
        out[t, 0] = _led_mask(large, colour) if mask else _guided(large, colour, radius=3).clamp_(0, 1)
    return out


def _offset(rgb: Tensor) -> Tensor:
    """1/2 where any value is below zero, else 0, without waiting for the device to tell."""
    return (rgb.amin() < 0).float() / 2


def _to_unit(rgb: Tensor, offset: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1] for an offset of 1/2, nothing for one of 0."""
    return rgb * (1 - offset) + offset


def _guided(alpha: Tensor, colour: Tensor, radius: int) -> Tensor:
    """(H, W), (3, H, W) -> (H, W): alpha as a linear function of the colours' mean around each pixel, averaged."""
    guide = colour.mean(0)
    g, a, ga, gg = _box(torch.stack((guide, alpha, guide * alpha, guide * guide)), radius)
    slope = (ga - g * a) / (gg - g * g + EPSILON)
    lines = _box(torch.stack((slope, a - slope * g)), radius)
    return lines[0] * guide + lines[1]


def _box(x: Tensor, radius: int) -> Tensor:
    """The mean of (2 r + 1) x (2 r + 1) pixels of (C, H, W), zeros beyond the edge."""
    size = 2 * radius + 1
    x = F.avg_pool2d(x, (1, size), stride=1, padding=(0, radius))
    return F.avg_pool2d(x, (size, 1), stride=1, padding=(radius, 0))


def _led_mask(alpha: Tensor, colour: Tensor) -> Tensor:
    """(H, W), (3, H, W) -> (H, W): crisp where the colours have an edge or nothing at all, smooth in between."""
    soft = _guided(alpha, colour, radius=2)
    edges = _edges(colour)
    near = F.max_pool2d(edges[None], 3, stride=1, padding=1)[0]
    mask = torch.lerp(soft, torch.sigmoid(12 * (soft - 0.5)), (edges / 0.25).clamp_(0, 1))
    mask = torch.where(near < 0.05, _decided(soft), mask)
    mask = torch.where(near < 0.03, _decided(mask), mask)
    unsure = (mask > 0.3) & (mask < 0.7) & (edges <= 0.15)
    return torch.where(unsure, _decided(mask), mask).clamp_(0, 1)


def _decided(mask: Tensor) -> Tensor:
    return (mask > 0.5).to(mask.dtype)


def _edges(colour: Tensor) -> Tensor:
    """(3, H, W) -> (H, W): Sobel's gradient of the 8-bit grey picture, as 8-bit shares of the frame's largest."""
    r, g, b = (_to_unit(colour, _offset(colour)).clamp_(0, 1) * 255).int()
    grey = ((9798 * r + 19235 * g + 3735 * b + 16384) >> 15).double()
    x = F.pad(grey[None], (1, 1, 1, 1), mode="reflect" if min(grey.shape) > 1 else "replicate")[0]
    across = x[:-2] + 2 * x[1:-1] + x[2:]
    down = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    gradient = torch.hypot(across[:, 2:] - across[:, :-2], down[2:] - down[:-2])
    return (gradient / gradient.amax().clamp(min=1) * 255).int().float() / 255
