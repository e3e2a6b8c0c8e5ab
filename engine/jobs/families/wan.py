"""Wan2.1 behind the road."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.catalog import Model
from engine.frames import Raster
from engine.jobs.families.family import Family, Setup
from engine.jobs.requests import GenerateRequest
from engine.pipelines.generator import Generator
from engine.pipelines.protocol import Estimate

if TYPE_CHECKING:
    import torch

    from engine.pipelines.wan.options import LoraFile, WanOptions


class WanFamily(Family[Generator["WanOptions"]]):
    """Its networks take turns on a device that does not hold them all. An estimate reads no weights."""

    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        from engine.pipelines.devices import restoration_dtype

        return restoration_dtype(device, narrow=False)

    def weight_bytes(self, setup: Setup) -> int:
        """The largest network: the others may wait on the host while it works."""
        others = {file.role for file in setup.model.files} - {"dit"}
        return max(setup.transformer_bytes, *(setup.file_bytes(role) or 0 for role in others))

    def held_bytes(self, setup: Setup, pipeline: Generator["WanOptions"]) -> int:
        return pipeline.here_bytes

    def check(self, setup: Setup) -> None:
        from engine.pipelines.wan.load import check_wan

        check_wan(setup.files)

    def load(self, setup: Setup) -> Generator["WanOptions"]:
        from engine.pipelines.wan.load import load_wan

        return load_wan(
            setup.files,
            name=setup.model.name,
            device=setup.device,
            dtype=setup.dtype,
            free_bytes=setup.free_bytes,
            fp8_matmul=setup.fp8_matmul,
            arrived=setup.counted(),
        )

    def options(self, request: GenerateRequest, loras: "Sequence[LoraFile]", free_bytes: int) -> "WanOptions":
        """What a settled request asks for. `free_bytes`: of the device, what is loaded there aside."""
        from engine.pipelines.wan.options import WanOptions

        frames, width, height, steps = request.frames, request.width, request.height, request.steps
        guidance, shift, solver = request.guidance, request.shift, request.solver
        assert frames and width and height and steps and guidance and shift and solver  # which is what settles it
        return WanOptions(
            task=request.kind,
            prompt=request.prompt,
            negative=request.negative_prompt,
            frames=frames,
            width=width,
            height=height,
            steps=steps,
            guidance=guidance,
            shift=shift,
            solver=solver,
            seed=request.seed,
            strength=request.strength,
            fit=request.fit,
            loras=tuple(loras),
            free_bytes=free_bytes,
        )

    def estimate(self, setup: Setup, source: Raster | None, options: "WanOptions") -> Estimate:
        """What a call would take, none of the model's networks being on the device."""
        from engine.pipelines.wan.estimate import estimate

        return estimate(
            setup.files,
            setup.model.architecture,
            published={
                role: size
                for role in {file.role for file in setup.model.files}
                if (size := setup.file_bytes(role)) is not None
            },
            options=options,
            source=source,
            device=setup.device,
            dtype=setup.dtype,
        )
