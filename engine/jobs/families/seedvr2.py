"""SeedVR2 behind the road."""

from pathlib import Path
from typing import TYPE_CHECKING

from engine.catalog import Model
from engine.frames import Raster
from engine.jobs.families.family import Setup, UpscalerFamily, Use, number
from engine.jobs.requests import UpscaleRequest
from engine.jobs.seedvr2_rules import settled
from engine.notes import Note
from engine.pipelines.protocol import Estimate
from engine.pipelines.upscaler import Upscaler

if TYPE_CHECKING:
    import torch

    from engine.pipelines.seedvr2.options import SeedVR2Options


class SeedVR2Family(UpscalerFamily[Upscaler["SeedVR2Options"], "SeedVR2Options"]):
    """An estimate reads no weights, nor needs them to be here."""

    def settle(self, request: UpscaleRequest) -> tuple[UpscaleRequest, tuple[Note, ...]]:
        return settled(request)

    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        from engine.pipelines.devices import restoration_dtype

        return restoration_dtype(device, narrow=model.architecture == "3b")

    def weight_bytes(self, setup: Setup) -> int:
        from engine.pipelines.seedvr2.estimate import autoencoder_bytes

        return setup.transformer_bytes + autoencoder_bytes(setup.dtype)

    def check(self, setup: Setup) -> None:
        from engine.pipelines.seedvr2.load import check_seedvr2

        check_seedvr2(*_files(setup))

    def load(self, setup: Setup) -> Upscaler["SeedVR2Options"]:
        from engine.pipelines.seedvr2.load import load_seedvr2

        return load_seedvr2(*_files(setup), device=setup.device, dtype=setup.dtype, arrived=setup.counted())

    def options(self, request: UpscaleRequest, frames: int, free_bytes: int) -> "SeedVR2Options":
        from engine.pipelines.seedvr2.options import SeedVR2Options

        vae_tile, vae_overlap = request.vae_tiles
        return SeedVR2Options(
            free_bytes=free_bytes,
            frames=frames,
            batch_size=number(request.batch_size),
            temporal_overlap=number(request.temporal_overlap),
            temporal=request.temporal,
            uniform_batch_size=request.uniform_batch_size,
            prepend_frames=request.prepend_frames,
            input_noise_scale=request.input_noise_scale,
            latent_noise_scale=request.latent_noise_scale,
            color_correction=request.color_correction,
            seed=request.seed,
            strength=request.strength,
            vae_tiling=request.vae_tiling,
            vae_tile=vae_tile,
            vae_overlap=vae_overlap,
        )

    def estimate(
        self,
        setup: Setup,
        source: Raster,
        target: Raster,
        options: "SeedVR2Options",
        use: Use[Upscaler["SeedVR2Options"]],
    ) -> Estimate:
        from engine.pipelines.seedvr2.estimate import estimate

        return estimate(
            setup.file("dit"),
            setup.model.architecture,
            dit_weights=setup.transformer_bytes,
            source=source,
            target=target,
            options=options,
            device=setup.device,
            dtype=setup.dtype,
        )


def _files(setup: Setup) -> tuple[Path, Path, Path | None]:
    """The transformer, the autoencoder and, where it is here, the prompt's embedding."""
    dit, vae = setup.file("dit"), setup.file("vae")
    assert dit is not None and vae is not None  # the catalog takes no SeedVR2 model without
    return dit, vae, setup.file("positive")
