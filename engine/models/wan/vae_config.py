"""Sizes of Wan2.1's video autoencoder. No torch, so that an estimate is cheap."""

from dataclasses import dataclass

SPATIAL, TEMPORAL = 8, 4  # pixels to a side of a latent; frames to a latent, but for the first, which is one frame
COLOURS, LATENT = 3, 16

# Of each of a latent's channels, over what the network was trained on (upstream wan/modules/vae.py).
MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)


@dataclass(frozen=True, slots=True)
class WanVAEConfig:
    """`width`: channels at full size; two and four times as many at smaller ones."""

    width: int = 96

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"{self.width} channels are none")


VAE = WanVAEConfig()  # the only published one


# Peaks, in values held for each pixel of a frame, as counted on tensors alone for clips of several seconds; less for
# shorter ones. What kernels and allocators take for themselves is left to the caller.
_ENCODED, _DECODED = 2480, 3150


def encode_bytes(config: WanVAEConfig, height: int, width: int, itemsize: int) -> int:
    """Peak bytes of tensors in `WanVAE.encode_still`, latents among them and weights not; `encode` takes 1/8 less."""
    return _bytes(config, _ENCODED, height * width * itemsize)


def decode_bytes(config: WanVAEConfig, height: int, width: int, itemsize: int) -> int:
    """Peak bytes of tensors in `WanVAE.decode`, for whoever keeps none of its frames; weights not among them."""
    return _bytes(config, _DECODED, height * width * itemsize)


def _bytes(config: WanVAEConfig, values: int, size: int) -> int:
    return -(-values * size * config.width // VAE.width)
