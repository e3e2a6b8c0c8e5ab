"""Frames before the encoder: their size, their range, how many there are; and how overlapping clips are joined.

The encoder takes 4 n + 1 frames whose edges are multiples of 16. Lists of indices say which frame stands where, so that
they serve whatever holds the frames.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.pipelines.frames import resize

MULTIPLE = 16  # 8 pixels for a latent, 2 latents for a token
INPUT_NOISE = 0.025


def prepare(rgb: Tensor, height: int, width: int) -> Tensor:
    """(T, 3, h, w) in [0, 1] -> (T, 3, H, W) in [-1, 1]: resized, then padded with black at the right and below."""
    x = resize(rgb, height, width).clamp(0, 1)
    return F.pad(x, (0, -width % MULTIPLE, 0, -height % MULTIPLE)).sub_(0.5).div_(0.5)


def add_noise(x: Tensor, scale: float, seed: int, *, same: bool = False) -> Tensor:
    """Gaussian noise on what the encoder sees, (T, 3, H, W), drawn on the CPU so that it is the same on every device.

    same: every frame has that of the first, so that pictures do not depend on how many are restored together.
    """
    if scale == 0:
        return x
    noise = torch.randn(1 if same else len(x), *x.shape[1:], generator=torch.Generator().manual_seed(seed))
    return x + (INPUT_NOISE * scale) * noise.to(device=x.device, dtype=x.dtype)


def clip_indices(n: int, least: int = 0) -> list[int]:
    """Indices of the clip that the encoder is given for n frames: mirrored to `least`, then to the next 4 k + 1."""
    full = mirrored_tail(n, least)
    return [full[i] for i in mirrored_tail(len(full), len(full) + (1 - len(full)) % 4)]


def mirrored_tail(n: int, to: int) -> list[int]:
    """Indices of n frames and of mirrored ones after them, `to` in all or n if that is more.

    Mirroring starts beside the last frame. For n more frames or beyond, upstream starts at the last one, leaves the
    first one out, and repeats the last for the rest.
    """
    count = max(to - n, 0)
    if count < n:
        return [*range(n), *range(n - 2, n - 2 - count, -1)]
    return [*range(n), *range(n - 1, 0, -1), *[n - 1] * (count - n + 1)]


def blend_weights(overlap: int) -> Tensor:
    """The earlier clip's share (overlap,) in each frame that two clips share: half a cosine in the middle third."""
    if overlap < 3:
        return torch.linspace(1, 0, overlap)
    ramp = (3 * torch.linspace(0, 1, overlap) - 1).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(math.pi * ramp)
