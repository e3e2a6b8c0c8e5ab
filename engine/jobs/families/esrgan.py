"""Real-ESRGAN behind the road."""

from typing import TYPE_CHECKING

from engine.catalog import Model
from engine.frames import Raster
from engine.jobs.families.family import Setup, UpscalerFamily, Use, number
from engine.jobs.requests import UpscaleRequest
from engine.pipelines.protocol import Estimate

if TYPE_CHECKING:
    import torch

    from engine.pipelines.esrgan import Esrgan, EsrganOptions


class EsrganFamily(UpscalerFamily["Esrgan", "EsrganOptions"]):
    """Its files are small, and speed is known by running: an estimate loads the model."""

    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        from engine.pipelines.devices import fastest_dtype

        return fastest_dtype(device)

    def check(self, setup: Setup) -> None:
        from engine.pipelines.esrgan import open_esrgan

        open_esrgan(setup.all_paths)

    def load(self, setup: Setup) -> "Esrgan":
        from engine.pipelines.esrgan import load_esrgan

        return load_esrgan(setup.all_paths, setup.denoise_strength, setup.device, setup.dtype)

    def options(self, request: UpscaleRequest, frames: int, free_bytes: int) -> "EsrganOptions":
        from engine.pipelines.esrgan import EsrganOptions

        return EsrganOptions(
            batch_size=number(request.batch_size),
            tile=number(request.tile),
            tile_pad=request.tile_pad,
            strength=request.strength,
            free_bytes=free_bytes,
        )

    def estimate(
        self, setup: Setup, source: Raster, target: Raster, options: "EsrganOptions", use: "Use[Esrgan]"
    ) -> Estimate:
        with use() as pipeline:
            return pipeline.estimate(source, target, options)
