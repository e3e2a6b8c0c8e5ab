"""What a caller may ask of SeedVR2, already valid."""

from dataclasses import dataclass
from typing import Literal

from engine.pipelines.color import Method


@dataclass(frozen=True, slots=True)
class SeedVR2Options:
    """batch_size is a ceiling of the form 4n+1, None for what memory holds; temporal_overlap None for what suits it.

    free_bytes: of the device, the weights being in. frames: how many are expected, so that no batch is planned larger.
    temporal: False restores every frame by itself. vae_tile and vae_overlap are in pixels of the result.
    """

    free_bytes: int
    frames: int | None = None
    batch_size: int | None = None
    temporal_overlap: int | None = None
    temporal: bool = True
    uniform_batch_size: bool = False
    prepend_frames: int = 0
    input_noise_scale: float = 0.0
    latent_noise_scale: float = 0.0
    color_correction: Method = "lab"
    seed: int = 42
    strength: float = 1.0
    vae_tiling: Literal["auto", "on", "off"] = "auto"
    vae_tile: int = 1024
    vae_overlap: int = 128
