"""Frames <-> RGB tensors in [0, 1], on the tensors' own device. Chroma resampling is `chroma`'s, files are `media`'s.

Values keep the source's transfer: a network trained on gamma-encoded pictures is given gamma-encoded pictures.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.frames import Colour, Frame, Plane, Raster
from engine.pipelines.chroma import Phase, downsample, phase, upsample

BAND_BYTES = 2**20  # of float32 values converted at a time on a CPU

_LUMA = {  # H.273 matrix coefficients -> (K_R, K_B)
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


def to_rgb(frames: Sequence[Frame], raster: Raster, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(B, 3, H, W), or (B, 4, H, W) with straight alpha last; values outside the gamut are clamped."""
    planes = [_stack([frame.planes[i] for frame in frames], device) for i in range(len(frames[0].planes))]
    top = 2**raster.pixel.bits - 1
    if raster.pixel.model == "rgb":
        return planes[0].movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format).div_(top).to(dtype)
    rgb = _yuv_to_rgb(planes, raster)
    if raster.pixel.alpha:
        rgb = torch.cat((rgb, planes[3].float().div_(top)[:, None]), dim=1)
    return rgb.to(dtype)


def from_rgb(x: Tensor, frames: Sequence[Frame], target: Raster) -> list[Frame]:
    """Frames of `target` from (B, 3|4, H, W), dithered to its depth, each at the place in time of its source.

    Without alpha in x, a target with alpha is opaque; without alpha in the target, x's is dropped.
    """
    if x.shape[0] != len(frames) or x.shape[-2:] != (target.height, target.width):
        raise ValueError(f"{tuple(x.shape)} is not {len(frames)} frames of {target.width}x{target.height}")
    batch, height = x.shape[0], x.shape[2]
    shapes = target.pixel.plane_shapes(target.width, height)
    planes = [torch.empty(batch, *shape, dtype=_code_dtype(target), device=x.device) for shape in shapes]
    band = _band_rows(x, target)
    for top in range(0, height, band):
        rows = _codes(x[:, :, top : top + band], target)
        for plane, part in zip(planes, rows, strict=True):
            start = -(-top * plane.shape[1] // height)
            plane[:, start : start + part.shape[1]] = part
    arrays = [_to_numpy(plane) for plane in planes]
    return [Frame(tuple(a[i] for a in arrays), frame.time, frame.duration) for i, frame in enumerate(frames)]


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic in float32; the identity when the size is x's own."""
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x.float(), size=(height, width), mode="bicubic", antialias=True)


def luma_weights(raster: Raster) -> tuple[float, float]:
    """K_R and K_B of the raster's matrix; of one that we do not know, BT.709's."""
    return _LUMA.get(raster.matrix, _LUMA[1])


def _stack(planes: Sequence[Plane], device: torch.device) -> Tensor:
    """One tensor of a plane of several frames. The one copy also makes strided or read-only planes torch's own."""
    shape = (len(planes), *planes[0].shape)
    dtype = torch.uint8 if planes[0].dtype == np.uint8 else torch.uint16
    batch = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")
    view = batch.numpy()
    for i, plane in enumerate(planes):
        view[i] = plane
    return batch.to(device, non_blocking=True)


def _yuv_to_rgb(planes: Sequence[Tensor], raster: Raster) -> Tensor:
    (y_low, y_span), (c_zero, c_span) = _levels(raster)
    kr, kb = luma_weights(raster)
    height, width = planes[0].shape[1:]
    y = planes[0].float().sub_(y_low).div_(y_span)
    u, v = upsample(torch.stack((planes[1].float(), planes[2].float())), _phase(raster), height, width)
    u.sub_(c_zero).div_(c_span)
    v.sub_(c_zero).div_(c_span)
    rgb = y.new_empty(y.shape[0], 3, height, width)
    torch.add(y, v, alpha=2 * (1 - kr), out=rgb[:, 0])
    torch.add(y, u, alpha=2 * (1 - kb), out=rgb[:, 2])
    y.sub_(rgb[:, 0], alpha=kr).sub_(rgb[:, 2], alpha=kb)
    torch.div(y, 1 - kr - kb, out=rgb[:, 1])
    return rgb.clamp_(0, 1)


def _band_rows(x: Tensor, target: Raster) -> int:
    """Rows to convert at a time: on a CPU a few, whose intermediate results stay in cache.

    16 rows keep the dither's period in subsampled chroma too. Chroma on every other row looks beyond a band's edge.
    """
    height = x.shape[2]
    if x.device.type != "cpu" or _phase(target)[0] == "on":
        return height
    return max(BAND_BYTES // (16 * 4 * x[:, :, 0].numel()), 1) * 16


def _codes(x: Tensor, target: Raster) -> list[Tensor]:
    """The target's planes of (B, 3|4, H, W)."""
    channels = list(x.float().clamp(0, 1).unbind(1))
    if target.pixel.alpha and len(channels) == 3:
        channels.append(torch.ones_like(channels[0]))
    elif not target.pixel.alpha:
        del channels[3:]
    bits = target.pixel.bits
    top = 2**bits - 1
    if target.pixel.model == "rgb":
        return [torch.stack([_quantise(c.mul_(top), bits) for c in channels], dim=-1)]
    return [_quantise(p, bits) for p in (*_yuv(channels[:3], target), *(c.mul_(top) for c in channels[3:]))]


def _yuv(rgb: Sequence[Tensor], target: Raster) -> tuple[Tensor, Tensor, Tensor]:
    """Y, U and V in codes, not yet rounded."""
    (y_low, y_span), (c_zero, c_span) = _levels(target)
    kr, kb = luma_weights(target)
    r, g, b = rgb
    y = (r * kr).add_(g, alpha=1 - kr - kb).add_(b, alpha=kb)
    phases = _phase(target)
    u = downsample(b.sub_(y), phases).mul_(c_span / (2 * (1 - kb))).add_(c_zero)
    v = downsample(r.sub_(y), phases).mul_(c_span / (2 * (1 - kr))).add_(c_zero)
    return y.mul_(y_span).add_(y_low), u, v


def _levels(raster: Raster) -> tuple[tuple[float, float], tuple[float, float]]:
    """(code of black, codes from black to white), (code of no colour, codes from -1/2 to 1/2). H.273, 8.3.

    A range that is not tagged is limited.
    """
    bits = raster.pixel.bits
    if raster.colour.range == 2:
        return (0, 2**bits - 1), (2 ** (bits - 1), 2**bits - 1)
    unit = 2 ** (bits - 8)
    return (16 * unit, 219 * unit), (128 * unit, 224 * unit)


def _phase(raster: Raster) -> tuple[Phase, Phase]:
    return phase(raster.pixel.sub_h, raster.pixel.sub_w, _siting(raster.colour))


def _siting(colour: Colour) -> int:
    """Where it is not tagged, chroma lies left, H.264's and HEVC's default."""
    return colour.chroma_location or 1


def _code_dtype(raster: Raster) -> torch.dtype:
    return torch.uint8 if raster.pixel.bits == 8 else torch.uint16


def _quantise(codes: Tensor, bits: int) -> Tensor:
    """Round in place to codes, with an ordered dither of less than half a code either way.

    Flat areas keep their mean at any depth, and a value within 1/128 of a code gets that code, so that what was
    read from codes is written as the same codes. The pattern is the same in all frames, which codecs like.
    """
    whole = codes.shape[-2] // 8 * 8
    pattern = _dither(codes.shape[-1], codes.device)
    torch.unflatten(codes[..., :whole, :], -2, (-1, 8)).add_(pattern)
    codes[..., whole:, :].add_(pattern[: codes.shape[-2] - whole])
    return codes.round_().clamp_(0, 2**bits - 1).to(torch.uint8 if bits == 8 else torch.uint16)


@lru_cache(maxsize=8)
def _dither(width: int, device: torch.device) -> Tensor:
    """(8, width): Bayer's 8x8 matrix side by side, its 64 levels evenly within (-1/2, 1/2)."""
    bayer = torch.zeros(1, 1)
    for _ in range(3):
        bayer = torch.cat((torch.cat((4 * bayer, 4 * bayer + 2), 1), torch.cat((4 * bayer + 3, 4 * bayer + 1), 1)), 0)
    levels = (bayer + 0.5) / 64 - 0.5
    return levels.repeat(1, -(-width // 8))[:, :width].contiguous().to(device)


def _to_numpy(plane: Tensor) -> NDArray[np.uint8] | NDArray[np.uint16]:
    array: NDArray[np.uint8] | NDArray[np.uint16] = plane.cpu().numpy()
    return array
