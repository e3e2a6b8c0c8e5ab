"""Who a job works with: storage, media, models. Production takes `Desk.from_settings`; a test hands in its own."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from engine.catalog import FAMILIES as FAMILY_NAMES
from engine.catalog import Catalog, Model, Task, built_in, locate
from engine.errors import ModelNotBaked, OutOfMemory
from engine.frames import Raster
from engine.jobs.families import FAMILIES, Family, Setup, UpscalerFamily, WanFamily
from engine.jobs.outputs import OutputFields, S3Config
from engine.jobs.plan import Outline
from engine.jobs.requests import GenerateRequest, UpscaleRequest
from engine.jobs.scratch import sweep
from engine.media.info import Ceilings
from engine.pipelines.generator import Generator
from engine.pipelines.protocol import Estimate, Pipeline
from engine.pipelines.upscaler import Upscaler
from engine.residency import MIB, Residency, process_seconds
from engine.settings import Settings
from engine.storage.deliver import Deliverer
from engine.storage.destinations import Place, destination
from engine.storage.fetch import Fetcher
from engine.storage.hooks import Check, Progress, unchecked, unseen
from engine.storage.sources import Fetched

if TYPE_CHECKING:
    import torch

ROOM = 1.2  # of what a model takes, which must be free before it is loaded
LOGGED = 5.0  # seconds between lines that tell how far the worker's start is
AT_ONCE = 2.0  # seconds: a first job that comes so soon has been waiting for the worker
log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A pipeline in memory: the model's name and, where that mixes two checkpoints, by what strength."""

    name: str
    strength: float | None

    @classmethod
    def of(cls, setup: Setup) -> "Loaded":
        return cls(setup.model.name, setup.denoise_strength)

    def __str__(self) -> str:
        return self.name if self.strength is None else f"{self.name} at denoise_strength {self.strength:g}"


@dataclass
class Desk:
    """The collaborators of every job of this worker.

    start_seconds: from the process's start until the first model was loaded; 0 where models are loaded on demand.
    free_at: when the engine's thread was first free for a job, by `time.monotonic`; infinitely long ago where that is
    unknown, or a job has been taken since. load_seconds: of loading that the job under way has waited for; waited:
    whether it has for the worker's start.
    """

    settings: Settings
    fetcher: Fetcher
    deliverer: Deliverer
    residency: Residency[Loaded, Pipeline]
    catalog: Catalog = field(default_factory=built_in)
    families: Mapping[str, Family[Any]] = field(default_factory=lambda: FAMILIES)
    start_seconds: float = 0.0
    free_at: float = -math.inf
    load_seconds: float = 0.0
    waited: bool = False

    @classmethod
    def from_settings(cls, settings: Settings) -> "Desk":
        """The real ones. On the platform, what a killed worker left in the scratch folder goes first.

        Raises Internal where a file of the setting CATALOG is wrong.
        """
        catalog = reduce(Catalog.with_file, settings.catalog, built_in())
        if not settings.local and (left := sweep(settings.scratch_dir)):
            log.info("removed %d scratch folders of an earlier worker", left)
        return cls(settings, Fetcher(settings), Deliverer(settings), Residency(settings), catalog)

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

    def fetch(self, address: str | None, base64: str | None, folder: Path, check: Check, progress: Progress) -> Fetched:
        """A source as a file, by whichever of the two it was given."""
        if base64 is not None:
            return self.fetcher.fetch_base64(base64, folder)
        assert address is not None  # the contract demands one of the two
        return self.fetcher.fetch(address, folder, check=check, progress=progress)

    def model(self, name: str | None, task: Task = "upscale") -> Model:
        """The model a job means. Raises UnknownModel, ModelNotBaked, InvalidInput."""
        return self.catalog.resolve(name, self.settings.models, task)

    def any_model(self, name: str | None) -> Model:
        """The model of that name, or the worker's first, whatever it does. Raises UnknownModel, ModelNotBaked."""
        name = name if name is not None else next(iter(self.settings.models), "")
        found = self.catalog.find(name)
        generates = FAMILY_NAMES.get(name.strip().casefold()) == "wan"
        return self.model(name or None, found.tasks[0] if found else "t2v" if generates else "upscale")

    def family(self, model: Model) -> Family[Any]:
        """How to deal with the model. Raises ModelNotBaked for a family that is yet to come."""
        if model.family not in self.families:
            raise ModelNotBaked(f"this version of the worker cannot run `{model.name}` yet", field="model")
        return self.families[model.family]

    def upscaling(self, model: Model) -> UpscalerFamily[Any, Any]:
        """How to ask a model that the catalog says can upscale."""
        family = self.family(model)
        assert isinstance(family, UpscalerFamily)
        return family

    def generating(self, model: Model) -> WanFamily:
        """How to ask a model that the catalog says can make video."""
        family = self.family(model)
        assert isinstance(family, WanFamily)
        return family

    @contextmanager
    def upscaler(
        self, model: Model, denoise_strength: float = 0.5, check: Check = unchecked, progress: Progress = unseen
    ) -> Iterator[Upscaler[Any]]:
        """The model's pipeline, loaded at most once. Raises ModelNotBaked when its files are not on this machine.

        check: may stop the loading. progress: is told how far that is.
        """
        with self._use(self._setup(model, denoise_strength), check, progress) as pipeline:
            yield cast(Upscaler[Any], pipeline)

    @contextmanager
    def generator(
        self, model: Model, check: Check = unchecked, progress: Progress = unseen
    ) -> Iterator[Generator[Any]]:
        """The same of a model that makes video."""
        with self._use(self._setup(model), check, progress) as pipeline:
            yield cast(Generator[Any], pipeline)

    def warm(self, model: Model, check: Check = unchecked, progress: Progress = unseen) -> float:
        """Load a model and run one tiny shape; the seconds that took."""
        with self._use(self._setup(model), check, progress) as pipeline:
            return pipeline.warm(self.residency.free_bytes())

    @contextmanager
    def _use(self, setup: Setup, check: Check, progress: Progress) -> Iterator[Pipeline]:
        key = Loaded.of(setup)
        if not self.residency.holds(key):  # one mix at a time
            self.residency.offload(lambda other: other.name == setup.model.name)
        held_bytes = partial(self.family(setup.model).held_bytes, setup)
        loading = replace(setup, check=check, progress=progress)  # apart, lest the job be kept as long as the pipeline
        with self.residency.use(key, lambda: self._timed_load(loading), held_bytes) as pipeline:
            yield pipeline

    def take(self) -> None:
        """To be called as a job begins, whatever it asks for: only the first may have waited for the worker's start."""
        self.waited = time.monotonic() - self.free_at < AT_ONCE
        self.free_at = -math.inf
        self.load_seconds = 0.0

    @property
    def waited_seconds(self) -> float:
        """What the job under way has waited for: loading and, if it was there already, the worker's own start."""
        return self.load_seconds + (self.start_seconds if self.waited else 0.0)

    def weight_bytes(self, model: Model) -> int:
        """What a model takes in memory, as far as its files tell."""
        return self.family(model).weight_bytes(self._setup(model))

    def check(self, model: Model) -> None:
        """Demand of a model's files, all being here, what loading would. Raises CheckpointMismatch, OSError."""
        self.family(model).check(self._setup(model))

    def estimate(self, model: Model, request: UpscaleRequest, plan: Outline) -> Estimate:
        """What a settled request would take. Loads the model where its family needs that to know."""
        family, setup = self.upscaling(model), self._setup(model, request.denoise_strength)
        free = self.residency.free_bytes() - (0 if self._holds(model) else family.weight_bytes(setup))
        options = family.options(request, plan.frames, max(free, 0))
        return family.estimate(
            setup, plan.info.raster, plan.target, options, lambda: self.upscaler(model, request.denoise_strength)
        )

    def estimate_generation(self, model: Model, request: GenerateRequest, source: Raster | None) -> Estimate:
        """What a settled request would take. LoRAs, which are merged, change nothing of that."""
        family, setup = self.generating(model), self._setup(model)
        loaded = cast("Generator[Any] | None", self.residency.get(Loaded.of(setup)))
        free = self.residency.free_bytes() + (loaded.here_bytes if loaded else 0)
        return family.estimate(setup, source, family.options(request, (), free))

    def _holds(self, model: Model) -> bool:
        return any(name == model.name for name, _ in self.residency.loaded)

    def _setup(self, model: Model, denoise_strength: float = 0.5) -> Setup:
        return Setup(
            model,
            locate(model, self.settings.models_dir).paths,
            self.residency.device,
            self.dtype(model),
            denoise_strength if model.mixed else None,
            self.settings.fp8_matmul,
        )

    def _timed_load(self, setup: Setup) -> Pipeline:
        began = time.monotonic()
        try:
            return self._load(setup)
        finally:
            self.load_seconds += time.monotonic() - began

    def _load(self, setup: Setup) -> Pipeline:
        family = self.family(setup.model)
        lacking = locate(setup.model, self.settings.models_dir).missing
        if missing := [file.name for file in lacking if not file.optional]:
            raise ModelNotBaked(
                f"`{setup.model.name}` is offered by this worker, but its image lacks {', '.join(missing)}",
                hint="bake the model into the image, or put its files into a folder of MODELS_DIR",
                field="model",
            )
        needed, budget = family.weight_bytes(setup), self.residency.budget_bytes
        if budget is not None and needed > budget and setup.device.type == "cpu":  # a GPU may have blocks wait outside
            raise self._too_large(setup, budget)
        self._make_room(int(ROOM * needed), setup.model)
        pipeline = self._attempt(family, setup)
        if pipeline is None:
            gone, _ = self.residency.offload()
            pipeline = self._attempt(family, setup) if gone else None
        if pipeline is None:
            self.residency.offload()
            raise self._too_large(setup, self.residency.free_bytes())
        return pipeline

    def _too_large(self, setup: Setup, free: int) -> OutOfMemory:
        """A model that does not fit even alone, and the largest of its kind that would."""
        model, weigh = setup.model, self.family(setup.model).weight_bytes
        kin = [other for other in self.catalog.models if other.family == model.family and other.tasks == model.tasks]
        sizes = {other.name: weigh(self._setup(other)) for other in kin if other != model}
        fitting = sorted((name for name, size in sizes.items() if ROOM * size <= free), key=lambda name: -sizes[name])
        smaller = f"choose {' or '.join(f'`{name}`' for name in fitting[:3])}, or " if fitting else "choose "
        return OutOfMemory(
            f"`{model.name}` takes {weigh(setup) // MIB} MB, more than the {free // MIB} here",
            hint=f"{smaller}an endpoint with more memory",
        )

    def _attempt(self, family: Family[Any], setup: Setup) -> Pipeline | None:
        """The pipeline; None when memory ran out, with what was there of it let go."""
        from engine.pipelines.devices import is_out_of_memory

        try:
            pipeline: Pipeline = family.load(replace(setup, free_bytes=self.residency.free_bytes()))
            return pipeline
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _make_room(self, needed: int, model: Model) -> None:
        """Drop models, the one used longest ago before others, until `needed` bytes are free or none is left."""
        for key in self.residency.loaded:
            if self.residency.free_bytes() >= needed:
                return
            self.residency.offload(partial(eq, key))
            log.info("dropped %s to make room for %s, %d MB", key, model.name, needed // MIB)

    def dtype(self, model: Model) -> "torch.dtype":
        """The arithmetic that DTYPE asks for; `auto` is what the model's family does well on this device."""
        import torch

        named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return named.get(self.settings.dtype) or self.family(model).dtype(model, self.residency.device)

    def preload(self) -> None:
        """Load the first model and run one tiny shape, so that the first job starts warm; it tells when that was."""
        model = self.any_model(None)
        self.warm(model, progress=_logged(model.name))
        self.start_seconds = process_seconds()


def _logged(name: str) -> Progress:
    """Tells the log, at most every LOGGED seconds: of a quick load nothing."""
    told = time.monotonic()

    def progress(done: int, total: int | None) -> None:
        nonlocal told
        if total and time.monotonic() - told >= LOGGED:
            told = time.monotonic()
            log.info("loading %s: %.0f of %.0f MB", name, done / 1e6, total / 1e6)

    return progress


def _as_given(config: S3Config) -> dict[str, str | None]:
    """RunPod's own names, secrets opened, for the storage that reads them."""
    return {
        "accessId": config.access_id.get_secret_value(),
        "accessSecret": config.access_secret.get_secret_value(),
        "bucketName": config.bucket_name,
        "endpointUrl": config.endpoint_url,
    }
