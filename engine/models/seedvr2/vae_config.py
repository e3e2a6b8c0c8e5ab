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
