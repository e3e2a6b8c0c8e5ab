"""What the road knows of each family of models: how one is loaded, asked and estimated. The one place that tells
families apart; what it imports of a family, torch among it, is imported when it is needed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from engine.catalog import Model
from engine.frames import Raster
from engine.jobs.requests import GenerateRequest, UpscaleRequest
from engine.jobs.seedvr2_rules import settled
from engine.notes import Note
from engine.pipelines.generator import Generator
from engine.pipelines.protocol import Estimate, Pipeline
from engine.pipelines.upscaler import Upscaler
from engine.storage.hooks import Check, Progress, unchecked, unseen

if TYPE_CHECKING:
    import torch

    from engine.pipelines.esrgan import Esrgan, EsrganOptions
    from engine.pipelines.seedvr2.options import SeedVR2Options
    from engine.pipelines.wan.options import LoraFile, WanOptions


@dataclass(frozen=True, slots=True)
class Setup:
    """A model on this machine: those of its files that are here, by name; the device and the arithmetic it runs in.

    denoise_strength: of a model that is mixed from two checkpoints, else None. fp8_matmul: whether fp8 weights may be
    multiplied in fp8. free_bytes: of the device, when it is loaded. check, progress: what may stop the loading, and who
    is told how far it is.
    """

    model: Model
    paths: Mapping[str, Path]
    device: "torch.device"
    dtype: "torch.dtype"
    denoise_strength: float | None = None
    fp8_matmul: bool = False
    free_bytes: int = 0
    check: Check = unchecked
    progress: Progress = unseen

    def file(self, role: str) -> Path | None:
        """The file of that role, None where the model has none or it is not here."""
        return next(iter(self.files.get(role, ())), None)

    @property
    def files(self) -> Mapping[str, Sequence[Path]]:
        """The files that are here, by role, in the catalog's order."""
        found: dict[str, list[Path]] = {}
        for file in self.model.files:
            if file.name in self.paths:
                found.setdefault(file.role, []).append(self.paths[file.name])
        return found

    def counted(self) -> Callable[[int], None]:
        """What a load calls with the bytes of each tensor that is in; counts from 0, up to the size of the files."""
        done, total = 0, sum(path.stat().st_size for path in self.paths.values())

        def arrived(nbytes: int) -> None:
            nonlocal done
            self.check()
            done += nbytes
            self.progress(done, total)

        return arrived


UNPACKED = ("F32", "F16", "BF16")
P = TypeVar("P", bound=Pipeline)
U = TypeVar("U", bound=Upscaler[Any])
O = TypeVar("O")  # noqa: E741
Use = Callable[[], AbstractContextManager[P]]


class Family(ABC, Generic[P]):
    """`P` is the family's pipeline."""

    @abstractmethod
    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        """What DTYPE=auto means."""

    def weight_bytes(self, setup: Setup) -> int:
        """What the model takes in memory, as far as its files tell."""
        return sum(_file_bytes(setup, role) or 0 for role in {file.role for file in setup.model.files})

    def held_bytes(self, setup: Setup, pipeline: P) -> int:
        """What the loaded pipeline takes of the device now."""
        return self.weight_bytes(setup)

    @abstractmethod
    def check(self, setup: Setup) -> None:
        """Demand of the files, all being here, what `load` does, reading no weights. Raises what `load` raises."""

    @abstractmethod
    def load(self, setup: Setup) -> P:
        """The pipeline, all files being here. Raises CheckpointMismatch, OSError, and what `setup.check` raises."""


class UpscalerFamily(Family[U], Generic[U, O]):
    """`O` is what its pipelines are asked with."""

    def settle(self, request: UpscaleRequest) -> tuple[UpscaleRequest, tuple[Note, ...]]:
        """The request with the values that will be in effect, and what was changed. Raises InvalidInput."""
        return request, ()

    @abstractmethod
    def options(self, request: UpscaleRequest, frames: int, free_bytes: int) -> O:
        """What a settled request asks for. `free_bytes`: of the device, the weights being in."""

    @abstractmethod
    def estimate(self, setup: Setup, source: Raster, target: Raster, options: O, use: Use[U]) -> Estimate:
        """What a call would take. `use` gives the pipeline, loaded if need be, where that is the way to know."""


class EsrganFamily(UpscalerFamily["Esrgan", "EsrganOptions"]):
    """Real-ESRGAN. Its files are small, and speed is known by running: an estimate loads the model."""

    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        from engine.pipelines.devices import fastest_dtype

        return fastest_dtype(device)

    def check(self, setup: Setup) -> None:
        from engine.pipelines.esrgan import open_esrgan

        open_esrgan(_all_paths(setup))

    def load(self, setup: Setup) -> "Esrgan":
        from engine.pipelines.esrgan import load_esrgan

        return load_esrgan(_all_paths(setup), setup.denoise_strength, setup.device, setup.dtype)

    def options(self, request: UpscaleRequest, frames: int, free_bytes: int) -> "EsrganOptions":
        from engine.pipelines.esrgan import EsrganOptions

        return EsrganOptions(
            batch_size=_number(request.batch_size),
            tile=_number(request.tile),
            tile_pad=request.tile_pad,
            strength=request.strength,
            free_bytes=free_bytes,
        )

    def estimate(
        self, setup: Setup, source: Raster, target: Raster, options: "EsrganOptions", use: "Use[Esrgan]"
    ) -> Estimate:
        with use() as pipeline:
            return pipeline.estimate(source, target, options)


class SeedVR2Family(UpscalerFamily[Upscaler["SeedVR2Options"], "SeedVR2Options"]):
    """SeedVR2. An estimate reads no weights, nor needs them to be here."""

    def settle(self, request: UpscaleRequest) -> tuple[UpscaleRequest, tuple[Note, ...]]:
        return settled(request)

    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        from engine.pipelines.devices import restoration_dtype

        return restoration_dtype(device, narrow=model.architecture == "3b")

    def weight_bytes(self, setup: Setup) -> int:
        from engine.pipelines.seedvr2.estimate import autoencoder_bytes

        return _transformer_bytes(setup) + autoencoder_bytes(setup.dtype)

    def check(self, setup: Setup) -> None:
        from engine.pipelines.seedvr2.load import check_seedvr2

        check_seedvr2(*_seedvr2_files(setup))

    def load(self, setup: Setup) -> Upscaler["SeedVR2Options"]:
        from engine.pipelines.seedvr2.load import load_seedvr2

        return load_seedvr2(*_seedvr2_files(setup), device=setup.device, dtype=setup.dtype, arrived=setup.counted())

    def options(self, request: UpscaleRequest, frames: int, free_bytes: int) -> "SeedVR2Options":
        from engine.pipelines.seedvr2.options import SeedVR2Options

        vae_tile, vae_overlap = request.vae_tiles
        return SeedVR2Options(
            free_bytes=free_bytes,
            frames=frames,
            batch_size=_number(request.batch_size),
            temporal_overlap=_number(request.temporal_overlap),
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
            dit_weights=_transformer_bytes(setup),
            source=source,
            target=target,
            options=options,
            device=setup.device,
            dtype=setup.dtype,
        )


class WanFamily(Family[Generator["WanOptions"]]):
    """Wan2.1. Its networks take turns on a device that does not hold them all. An estimate reads no weights."""

    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        from engine.pipelines.devices import restoration_dtype

        return restoration_dtype(device, narrow=False)

    def weight_bytes(self, setup: Setup) -> int:
        """The largest network: the others may wait on the host while it works."""
        others = {file.role for file in setup.model.files} - {"dit"}
        return max(_transformer_bytes(setup), *(_file_bytes(setup, role) or 0 for role in others))

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
                if (size := _file_bytes(setup, role)) is not None
            },
            options=options,
            source=source,
            device=setup.device,
            dtype=setup.dtype,
        )


def _all_paths(setup: Setup) -> list[Path]:
    return [setup.paths[file.name] for file in setup.model.files]


def _seedvr2_files(setup: Setup) -> tuple[Path, Path, Path | None]:
    """The transformer, the autoencoder and, where it is here, the prompt's embedding."""
    dit, vae = setup.file("dit"), setup.file("vae")
    assert dit is not None and vae is not None  # the catalog takes no SeedVR2 model without
    return dit, vae, setup.file("positive")


def _file_bytes(setup: Setup, role: str) -> int | None:
    """Of all files of that role: on the disk, else by the catalog; None where that does not tell."""
    here = setup.files.get(role, ())
    if len(here) == sum(file.role == role for file in setup.model.files):
        return sum(path.stat().st_size for path in here)
    return setup.model.bytes_of(role)


def _transformer_bytes(setup: Setup) -> int:
    """The transformer in memory: what is stored in 8 bits or fewer stays so, what is wider becomes `dtype`."""
    if setup.model.precision in UNPACKED:
        return setup.model.parameters * setup.dtype.itemsize
    return _file_bytes(setup, setup.model.files[0].role) or setup.model.parameters


FAMILIES: Mapping[str, Family[Any]] = {"esrgan": EsrganFamily(), "seedvr2": SeedVR2Family(), "wan": WanFamily()}


def _number(value: int | str) -> int | None:
    """None for `auto`."""
    return value if isinstance(value, int) else None
