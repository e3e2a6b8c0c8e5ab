"""Saturation correction: hue by hue, saturation gets the style's distribution; hue and value stay the content's.

Statistics are of the whole slice. A hue is a twelfth of the circle. The first one's statistics include the last one's
pixels; the last one's are then matched among themselves, from what they were. The sizes of the groups are read from
the device, once for each picture.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.pipelines.color.pieces import pieces
from engine.pipelines.color.ranks import ascending, match
from engine.pipelines.color.wavelet import reconstruct

HUES = 12
TOO_FEW = 100  # pixels of a hue, on either side, to be matched


def match_saturation(content: Tensor, style: Tensor, out: Tensor) -> None:
    """(T, 3, H, W) of any float type -> float32 `out`, each channel of which is contiguous."""
    for t, rows in pieces(out):
        out[t, :, rows] = _to_hsv(content[t, :, rows])
    members, sizes = _by_hue(out[:, 0])
    wanted, wanted_sizes = _saturations_by_hue(style)
    saturation = out[:, 1].view(-1)
    before = saturation.clone()
    for group, style_group in zip(_groups(members, sizes), _groups(wanted, wanted_sizes), strict=True):
        if min(len(group), len(style_group)) > TOO_FEW:
            saturation[group] = match(before[group], ascending(style_group.clone()))
    for t, rows in pieces(out):
        out[t, :, rows] = _from_hsv(out[t, :, rows])


def adaptive(content: Tensor, style: Tensor, out: Tensor) -> None:
    """The wavelet's result; where that is more saturated than the style, the saturation correction's by degrees.

    Shapes as for `match_saturation`.
    """
    match_saturation(content, style, out)
    waved = torch.empty_like(out[0])
    for t in range(len(content)):
        reconstruct(content[t], style[t], waved)
        for _, rows in pieces(out[:1]):
            before, wanted, after = (_saturation(_unit(x[:, rows])) for x in (content[t], style[t], waved))
            weight = torch.sigmoid(5 * (before - wanted - 0.15)).mul_(after - wanted > 0.075)
            part, other = out[t, :, rows], waved[:, rows]
            part.sub_(other).mul_(weight).add_(other)


def _by_hue(hue: Tensor) -> tuple[Tensor, list[int]]:
    """Indices of the pixels of (T, H, W), hue after hue, the last one first; how many each has."""
    edges = torch.arange(1, HUES, device=hue.device) / HUES
    label = torch.bucketize(hue.reshape(-1), edges, out_int32=True, right=True).add_(1).remainder_(HUES)
    members = torch.sort(label.byte(), stable=True).indices
    return members, torch.bincount(label, minlength=HUES).tolist()


def _saturations_by_hue(rgb: Tensor) -> tuple[Tensor, list[int]]:
    """Saturations of (T, 3, H, W), flat, in the order of `_by_hue`; how many each hue has."""
    frames, _, height, width = rgb.shape
    planes = torch.empty(2, frames, height, width, device=rgb.device)
    for t, rows in pieces(rgb):
        planes[:, t, rows] = _to_hsv(rgb[t, :, rows])[:2]
    members, sizes = _by_hue(planes[0])
    return planes[1].view(-1)[members], sizes


def _groups(pixels: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """What is matched together, of pixels in the order of `_by_hue`: the first hue with the last, ..., the last."""
    last, first, *others = torch.split_with_sizes(pixels, sizes)
    yield pixels[: len(last) + len(first)]
    yield from others
    yield last


def _to_hsv(rgb: Tensor) -> Tensor:
    """Hue in [0, 1), saturation and value (3, h, w) of (3, h, w) in [-1, 1]. Of equals, blue counts as largest."""
    rgb = _unit(rgb)
    r, g, b = rgb
    value = rgb.amax(0)
    spread = value - rgb.amin(0)
    hue = ((g - b) / spread).remainder_(6)
    hue = torch.where(value == g, (b - r) / spread + 2, hue)
    hue = torch.where(value == b, (r - g) / spread + 4, hue).div_(6)
    hue.masked_fill_((spread <= 1e-10) | (hue >= 1), 0)  # grey; or rounded up to the whole circle
    return torch.stack((hue, _saturation(rgb), value))


def _saturation(rgb: Tensor) -> Tensor:
    """(h, w) of (3, h, w) in [0, 1]; none in black."""
    value = rgb.amax(0)
    return torch.where(value == 0, 0, (value - rgb.amin(0)).div_(value))


def _from_hsv(hsv: Tensor) -> Tensor:
    """(3, h, w) in [-1, 1]. Each channel is a trapezoid of the hue, a third of the circle from the next."""
    hue, saturation, value = hsv
    chroma = value * saturation
    channels = []
    for turn in (5, 3, 1):
        k = (hue * 6).add_(turn).remainder_(6)
        channels.append(torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma).neg_().add_(value))
    return torch.stack(channels).clamp_(0, 1).mul_(2).sub_(1)


def _unit(rgb: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]"""
    return ((rgb.float() + 1) / 2).clamp_(0, 1)
