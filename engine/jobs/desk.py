"""Who a job works with: storage, media, models. Production takes `Desk.from_settings`; a test hands in its own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import catalog
from engine.catalog import Model
from engine.errors import ModelNotBaked
from engine.jobs.outputs import OutputFields, S3Config
from engine.jobs.requests import UpscaleRequest
from engine.jobs.scratch import sweep
from engine.media.info import Ceilings
from engine.pipelines.devices import fastest_dtype
from engine.pipelines.esrgan import Esrgan, load_esrgan
from engine.residency import Residency
from engine.settings import Settings
from engine.storage.deliver import Deliverer
from engine.storage.destinations import Place, destination
from engine.storage.fetch import Fetcher
from engine.storage.hooks import Check, Progress
from engine.storage.sources import Fetched

log = logging.getLogger(__name__)

Loaded = tuple[str, float | None]
"""A pipeline in memory: the model's name and, where that mixes two checkpoints, by what strength."""


@dataclass
class Desk:
    """The collaborators of every job of this worker. `jobs_done` tells a cold job from a warm one."""

    settings: Settings
    fetcher: Fetcher
    deliverer: Deliverer
    residency: Residency[Loaded, Esrgan]
    jobs_done: int = field(default=0)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Desk":
        """The real ones. On the platform, what a killed worker left in the scratch folder goes first."""
        if not settings.local and (left := sweep(settings.scratch_dir)):
            log.info("removed %d scratch folders of an earlier worker", left)
        return cls(settings, Fetcher(settings), Deliverer(settings), Residency(settings))

    @property
    def ceilings(self) -> Ceilings:
        s = self.settings
        return Ceilings(seconds=s.max_input_seconds, frames=s.max_input_frames, pixels=s.max_pixels)

    def place(self, request: OutputFields) -> Place | None:
        """Where the request's result goes; None where neither it nor the worker says."""
        wanted, config = request.destination, request.s3_config
        return destination(
            wanted if wanted is None or isinstance(wanted, str) else wanted.model_dump(exclude_none=True),
            None if config is None else _as_given(config),
            self.settings,
        )

    def fetch(self, request: UpscaleRequest, folder: Path, check: Check, progress: Progress) -> Fetched:
        """The request's source as a file."""
        if request.source_base64 is not None:
            return self.fetcher.fetch_base64(request.source_base64, folder)
        assert request.source is not None  # the contract demands one of the two
        return self.fetcher.fetch(request.source, folder, check=check, progress=progress)

    def model(self, name: str | None, task: catalog.Task = "upscale") -> Model:
        """The model a job means. Raises UnknownModel, ModelNotBaked, InvalidInput."""
        return catalog.resolve_model(name, self.settings.models, task)

    @contextmanager
    def upscaler(self, model: Model, denoise_strength: float) -> Iterator[Esrgan]:
        """The model's pipeline, loaded at most once. Raises ModelNotBaked when its files are not on this machine."""
        strength = denoise_strength if model.mixed else None
        key = (model.name, strength)
        if not self.residency.holds(key):  # one mix at a time
            self.residency.offload(lambda other: other[0] == model.name)
        with self.residency.use(key, lambda: self._load(model, strength)) as pipeline:
            yield pipeline

    def _load(self, model: Model, denoise_strength: float | None) -> Esrgan:
        if model.family != "esrgan":
            raise ModelNotBaked(f"this version of the worker cannot run `{model.name}` yet", field="model")
        located = catalog.locate(model, self.settings.models_dir)
        if located.missing:
            names = ", ".join(file.name for file in located.missing)
            raise ModelNotBaked(
                f"`{model.name}` is offered by this worker, but its image lacks {names}",
                hint="bake the model into the image, or put its files into a folder of MODELS_DIR",
                field="model",
            )
        device = self.residency.device
        paths = [located.paths[file.name] for file in model.files]
        return load_esrgan(paths, denoise_strength, device, self.dtype)

    @property
    def dtype(self) -> Any:
        """The arithmetic that DTYPE asks for; `auto` is the fastest that the device does well."""
        import torch

        named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return named.get(self.settings.dtype) or fastest_dtype(self.residency.device)

    def preload(self) -> None:
        """Load the default model and run one tiny shape, so that the first job starts warm."""
        with self.upscaler(self.model(None), denoise_strength=0.5) as pipeline:
            pipeline.warm()


def _as_given(config: S3Config) -> dict[str, str | None]:
    """RunPod's own names, secrets opened, for the storage that reads them."""
    return {
        "accessId": config.access_id.get_secret_value(),
        "accessSecret": config.access_secret.get_secret_value(),
        "bucketName": config.bucket_name,
        "endpointUrl": config.endpoint_url,
    }
