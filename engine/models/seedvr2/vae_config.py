"""Sizes of SeedVR2's video autoencoder. No torch, so that an estimate is cheap."""

from dataclasses import dataclass

SPATIAL, TEMPORAL = 8, 4  # pixels to a side of a latent; frames to a latent, but for the first, which is one frame


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """`channels` from the picture inwards, each level at half the size of the one before."""

    channels: tuple[int, int, int, int] = (128, 256, 512, 512)
    groups: int = 32  # of every group norm
    latent: int = 16
    colours: int = 3

    def __post_init__(self) -> None:
        if any(c < 1 or c % self.groups for c in self.channels):
            raise ValueError(f"{self.channels} channels do not divide into {self.groups} groups")


VAE = VAEConfig()  # the only published one


# The peaks below are values held for each pixel of a frame, as counted on tensors alone for the published sizes; what
# kernels and allocators take for themselves is left to the caller.
RIM = 1.02  # grids of corners are a row and a column longer


def encode_bytes(
    config: VAEConfig, frames: int, height: int, width: int, slice_latents: int, itemsize: int, batch: int = 1
) -> int:
    """Peak bytes of tensors in `VideoVAE.encode`, the result among them, input and weights not."""
    if frames == 1:
        values = 385.0
    elif _whole(frames, slice_latents):  # the first level holds all frames, whatever else it works on
        values = 1280 + 128.2 * frames
    else:
        values = 2690 + 240.0 * slice_latents
    return _bytes(config, values, height * width * batch * itemsize)


def decode_bytes(
    config: VAEConfig, frames: int, height: int, width: int, slice_latents: int, itemsize: int, batch: int = 1
) -> int:
    """Peak bytes of tensors in `VideoVAE.decode`, the result among them, input and weights not."""
    if frames == 1:
        values = 643.0
    elif _whole(frames, slice_latents):
        values = 1664 + 259.0 * frames
    elif frames == 1 + TEMPORAL:  # two slices, and after the last no layer remembers anything
        values = 4050.0
    else:
        values = 4650 + 500 * slice_latents + 3.0 * frames
    return _bytes(config, values, height * width * batch * itemsize)


def _whole(frames: int, slice_latents: int) -> bool:
    """Whether all frames are together even at the largest size, where a slice is 2 frames for each of its latents."""
    return not 0 < 2 * slice_latents < frames - 1


def _bytes(config: VAEConfig, values: float, size: int) -> int:
    widest = max(ours / published for ours, published in zip(config.channels, VAE.channels, strict=True))
    return int(RIM * widest * values * size)
