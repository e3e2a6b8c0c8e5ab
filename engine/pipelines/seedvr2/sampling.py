"""The arithmetic around SeedVR2's one step: noise, the condition, and the result from the predicted velocity.

The process is x_t = (1 - t / 1000) x_0 + t / 1000 noise, the network predicts v = noise - x_0, and the only step is
from t = 1000, where x_t is all noise. Latents are channels-last (..., T, H, W, 16). SeedVR2, arXiv:2506.05301.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LATENT_SCALE = 0.9152
STEPS = 1000.0


def draw_noise(shape: Sequence[int], seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Gaussian noise (T, H, W, C) of a seed, float32, and a second draw, which `condition_noise` takes.

    Always drawn on the CPU, in upstream's order there, that of (C, T, H, W): the same on every device.
    """
    frames, height, width, channels = shape
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        # Through a permuted view, as upstream: torch fills a contiguous tensor with other values.
        noise = torch.empty(channels, frames, height, width).permute(1, 2, 3, 0).normal_(generator=generator)
        return noise.to(device).contiguous()

    return draw(), draw()


def condition(latent: Tensor, noise: Tensor) -> Tensor:
    """The network's input (B, T, H, W, 33): noise, the source's latent, and ones that say it is given.

    latent (B, T, H, W, 16), scaled; noise likewise, or (T, H, W, 16) for all of the batch.
    """
    return torch.cat((noise.expand_as(latent), latent, torch.ones_like(latent[..., :1])), dim=-1)


def denoise(noise: Tensor, v: Tensor) -> Tensor:
    """x_0 in float32, (B, T, H, W, 16), of the velocity predicted at t = 1000."""
    return noise.float() - v.float()


def condition_noise(latent: Tensor, scale: float, noise: Tensor, second: Tensor) -> Tensor:
    """The source's latent (B, T, H, W, C) with noise in it, which leaves the network more to invent.

    Some of it is the sample's own `noise`. As upstream, the timestep is shifted for (H, W, C) where (T, H, W) is meant.
    """
    if scale == 0:
        return latent
    t = shifted_timestep(STEPS * scale, *latent.shape[-3:]) / STEPS
    return (1 - t) * latent + t * (0.1 * noise + 0.05 * second)


def shifted_timestep(t: float, frames: int, height: int, width: int) -> float:
    """A timestep moved towards noise as a latent of (frames, height, width) has more pixels; 0 and 1000 stay."""
    count = 4 * (frames - 1) + 1
    pixels = 8 * height * 8 * width
    if count == 1:
        shift = _line(pixels, (256 * 256, 1.0), (1024 * 1024, 3.2))
    else:
        shift = _line(pixels * count, (256 * 256 * 37, 1.0), (1280 * 720 * 145, 5.0))
    u = t / STEPS
    return STEPS * shift * u / (1 + (shift - 1) * u)


def _line(x: float, a: tuple[float, float], b: tuple[float, float]) -> float:
    return a[1] + (x - a[0]) * (b[1] - a[1]) / (b[0] - a[0])
