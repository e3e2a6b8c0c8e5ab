"""Sources before the networks: an image as the first frame of what is to be made, frames of a video to begin from.

The published resize is bicubic without antialiasing, and its overshoot is not clamped (wan/image2video.py).
"""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.frames import Frame, Raster
from engine.pipelines.frames import resize, to_rgb
from engine.pipelines.wan.options import Fit

MASK = 4  # channels, one for each frame of a latent


def picture(frame: Frame, raster: Raster, device: torch.device) -> Tensor:
    """(1, 3, H, W) in [-1, 1], at the image's own size. What is transparent lies on black."""
    rgb = to_rgb([frame], raster, device, torch.float32)
    return (rgb[:, :3] * rgb[:, 3:] if raster.pixel.alpha else rgb).mul(2).sub(1)


def first_frame(image: Tensor, height: int, width: int, fit: Fit) -> Tensor:
    """(1, 3, h, w) in [-1, 1] -> (1, 3, height, width): stretched, cut from the middle, or in the middle of black."""

    def resized(x: Tensor, rows: int, columns: int) -> Tensor:
        return F.interpolate(x, size=(rows, columns), mode="bicubic", align_corners=False)

    return _fitted(image, height, width, fit, resized)


def condition(latents: Tensor) -> Tensor:
    """(16, T, h, w) of the image and grey frames after it -> (20, T, h, w) with the mask of what is given before it."""
    mask = latents.new_zeros(MASK, *latents.shape[1:])
    mask[:, 0] = 1
    return torch.cat((mask, latents))


def clip(
    frames: Iterable[Frame], raster: Raster, height: int, width: int, fit: Fit, device: torch.device
) -> Iterator[Tensor]:
    """Frames (1, 3, H, W) in [-1, 1], the last one repeated until they are 4 n + 1, as the autoencoder wants them."""
    count, x = 0, None
    for frame in frames:
        x = _fitted(picture(frame, raster, device), height, width, fit, resize).clamp(-1, 1)
        yield x
        count += 1
    assert x is not None  # whoever asked has made sure that there are frames
    for _ in range((1 - count) % 4):
        yield x


def _fitted(image: Tensor, height: int, width: int, fit: Fit, resized: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    if fit == "keep":
        return resized(image, height, width)
    ratios = height / image.shape[2], width / image.shape[3]
    if fit == "crop":  # before it is enlarged, so that a narrow strip stays small
        rows, columns = (max(round(n / max(ratios)), 1) for n in (height, width))
        top, left = (image.shape[2] - rows) // 2, (image.shape[3] - columns) // 2
        return resized(image[..., top : top + rows, left : left + columns], height, width)
    rows, columns = (max(round(n * min(ratios)), 1) for n in image.shape[2:])
    image = resized(image, rows, columns)
    top, left = (height - rows) // 2, (width - columns) // 2
    return F.pad(image, (left, width - columns - left, top, height - rows - top), value=-1.0)
