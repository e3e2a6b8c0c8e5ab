"""Wan2.1: a prompt, and perhaps an image or a video, in; frames out. Networks take turns on the device where they must,
and what was sampled outlives whatever happens to its decoding.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from engine.errors import OutOfMemory
from engine.frames import RGB24, Frame, Raster
from engine.models.checks import Check
from engine.models.wan.dit import Context, WanDiT
from engine.notes import Note
from engine.pipelines.devices import demand_numbers, release, timed, unless_out_of_memory
from engine.pipelines.frames import from_rgb
from engine.pipelines.generator import Source
from engine.pipelines.plans import MIB, Ran, choose, none_fits, reduced
from engine.pipelines.protocol import UNWATCHED, Watch
from engine.pipelines.wan.limits import FPS
from engine.pipelines.wan.memory import Footprint, latent_frames
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.options import LoraFile, WanOptions
from engine.pipelines.wan.plan import Plan, following, ladder
from engine.pipelines.wan.preparation import clip, condition, first_frame, picture
from engine.pipelines.wan.prompts import Tokenizer, clean
from engine.pipelines.wan.remembered import Remembered
from engine.pipelines.wan.sampling import Denoiser, draw_noise
from engine.pipelines.wan.schedules import Schedule, schedule
from engine.pipelines.wan.solvers import solver
from engine.pipelines.wan.windows import remark
from engine.weights.load import Arrived

REMEMBERED = 2**28  # bytes of prompts' rows, and as many of pictures
WARM_EDGE, WARM_FRAMES, WARM_STEPS = 64, 5, 2

R = TypeVar("R")
Loras = tuple[LoraFile, ...]
Load = Callable[[torch.device, Arrived], WanDiT]
"""Puts the transformer onto a device, from which it may come to the one it works on."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What one call is about. short: by phase, bytes that memory ran out for."""

    target: Raster
    options: WanOptions
    watch: Watch
    plans: Sequence[Plan]
    available: int
    short: dict[str, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Latents, rows, columns of the video's latent."""
        return latent_frames(self.options.frames), self.options.height // 8, self.options.width // 8


@dataclass(frozen=True, slots=True)
class Image:
    """What the networks know of an image to begin from: features (257, image_dim), condition (20, T, h, w)."""

    features: Tensor
    condition: Tensor


class Wan:
    """All networks on one device. `plan`, `notes`, `seconds` tell of the latest call, whole when it is exhausted.

    negative: the prompt that guidance leads away from where the caller names none. build: checks LoRAs, and gives what
    loads the transformer with them merged into it; the one there is has `loras`.
    """

    plan: Ran[Plan]

    def __init__(
        self,
        networks: Networks,
        tokenizer: Tokenizer,
        name: str,
        *,
        negative: str,
        build: Callable[[Loras], Load],
        loras: Loras | None = (),
    ) -> None:
        self.networks = networks
        self.name = name
        self.notes: list[Note] = []
        self.seconds: dict[str, float] = {}
        self._tokenizer = tokenizer
        self.negative = negative
        self._build = build
        self._loras = loras
        self._texts = Remembered(REMEMBERED)
        self._pictures = Remembered(REMEMBERED)

    def __call__(
        self, source: Source | None, target: Raster, options: WanOptions, watch: Watch = UNWATCHED
    ) -> Iterator[Frame]:
        """Exactly `options.frames` frames of `target`, at the model's own rate.

        Raises OutOfMemory, Internal, CheckpointMismatch for LoRAs, and what `watch.check` raises.
        """
        nets = self.networks
        self.notes, self.seconds = [*self._remarks(options)], {}
        self._adapt(options.loras, watch)
        pixels = source.raster.width * source.raster.height if source else 0
        footprint = Footprint.of(nets.sizes, options, pixels, nets.dtype, nets.device)
        available = options.free_bytes + self.here_bytes
        plans = ladder(footprint)
        self.plan = Ran(plans[choose(plans, available)], attempts=1)
        return self._stream(source, Job(target, options, watch, plans, available))

    @property
    def here_bytes(self) -> int:
        """What the networks take of the device now."""
        return self.networks.here_bytes

    def warm(self, free_bytes: int) -> float:
        """Make one tiny video, so that kernels are chosen; the seconds it took."""
        begun = time.perf_counter()
        raster = Raster(WARM_EDGE, WARM_EDGE, RGB24)
        i2v = self.networks.image is not None
        options = WanOptions(
            task="i2v" if i2v else "t2v",
            prompt="a cat",
            frames=WARM_FRAMES,
            width=WARM_EDGE,
            height=WARM_EDGE,
            steps=WARM_STEPS,
            guidance=5.0,
            shift=5.0,
            solver="unipc",
            seed=0,
            free_bytes=free_bytes,
            loras=self._loras or (),
        )
        grey = Frame((np.full((WARM_EDGE, WARM_EDGE, 3), 128, np.uint8),), Fraction(0))
        for _ in self(Source([grey], raster) if i2v else None, raster, options):
            pass
        return time.perf_counter() - begun

    def _remarks(self, options: WanOptions) -> Iterator[Note]:
        """What is to be said before any work is done."""
        read = [("prompt", options.prompt), ("negative_prompt", options.negative or "")]
        for what, text in read if options.guidance != 1 else read[:1]:
            if cut := self._tokenizer(clean(text)).cut:
                yield Note("PROMPT_CUT", f"`{what}` is {cut} tokens over the 512 that are read, so its end was cut")
        yield from remark(latent_frames(options.frames))

    def _stream(self, source: Source | None, job: Job) -> Iterator[Frame]:
        with torch.inference_mode():
            latents = self._latents(source, job)
        yield from self._decoded(latents, job)

    def _adapt(self, loras: Loras, watch: Watch) -> None:
        """See that the transformer has these LoRAs and no others: never are two of them in memory.

        Raises InvalidInput for a LoRA that does not fit, OutOfMemory, CheckpointMismatch, OSError.
        """
        if loras == self._loras:
            return

        def arrived(nbytes: int) -> None:
            watch.check()

        with self._phase("load", watch):
            load, device = self._build(loras), self.networks.device
            self._loras = None  # where it breaks off from here on, the next call begins anew
            self.networks.give_up()
            release(device)
            dit = unless_out_of_memory(lambda: load(device, arrived))
            if dit is None:
                release(device)
                dit = unless_out_of_memory(lambda: load(torch.device("cpu"), arrived))
            if dit is None:
                raise OutOfMemory("the transformer with these LoRAs does not fit into this worker's memory")
            self.networks.take(dit)
            self._loras = loras

    def _latents(self, source: Source | None, job: Job) -> Tensor:
        """(16, T, h, w)"""
        options, device = job.options, self.networks.device
        texts = self._prompts(job)
        image = self._image(source, job) if options.task == "i2v" and source else None
        noise = draw_noise(*job.shape, options.seed).to(device)
        levels = schedule(options.solver, options.steps, options.shift)
        if options.task == "v2v" and source:
            levels = levels.rest(options.strength)
            clean_latents = self._encoded(source, job)
            x = torch.lerp(clean_latents, noise, levels.sigmas[0])
        else:
            x = noise
        x = self._sample(x, levels, texts, image, job)
        demand_numbers(x, self.name)
        return x

    def _prompts(self, job: Job) -> list[Tensor]:
        """Rows (N, text_dim) of the prompt and, under guidance, of the negative one."""
        options = job.options
        texts = [options.prompt]
        if options.guidance != 1:
            texts.append(self.negative if options.negative is None else options.negative)
        with self._phase("text", job.watch):
            return [self._rows(clean(text), job) for text in texts]

    def _rows(self, text: str, job: Job) -> Tensor:
        if (kept := self._texts.get(text)) is not None:
            return kept
        ids, encode = self._tokenizer(text).ids, self.networks.encode_text
        return self._texts.put(text, self._fit("text", job, lambda plan: encode(ids, plan, job.watch.check)))

    def _image(self, source: Source, job: Job) -> Image:
        """What the networks know of the source's first frame."""
        frame = next(iter(source.frames))
        key = hashlib.sha256(b"".join(plane.tobytes() for plane in frame.planes)).hexdigest() + str(source.raster)
        with self._phase("image", job.watch):
            features = self._features(key, frame, source.raster, job)
        with self._phase("encode", job.watch):
            return Image(features, self._condition(key, frame, source.raster, job))

    def _features(self, key: str, frame: Frame, raster: Raster, job: Job) -> Tensor:
        """(257, image_dim)"""
        if (kept := self._pictures.get(key)) is not None:
            return kept
        nets = self.networks
        seen = self._fit("image", job, lambda plan: nets.encode_image(picture(frame, raster, nets.device), plan))
        return self._pictures.put(key, seen)

    def _condition(self, key: str, frame: Frame, raster: Raster, job: Job) -> Tensor:
        """(20, T, h, w), remembered with the tiles it was made of."""
        options, nets = job.options, self.networks
        size = options.height, options.width
        told = (key, options.fit, *size, job.shape[0])
        if (kept := self._pictures.get((*told, self.plan.plan.tile))) is not None:
            return kept

        def encoded(plan: Plan) -> Tensor:
            first = first_frame(picture(frame, raster, nets.device), *size, options.fit)
            return condition(nets.encode_still(first, 4 * job.shape[0] - 3, plan, job.watch.check))

        made = self._fit("encode", job, encoded)
        return self._pictures.put((*told, self.plan.plan.tile), made)

    def _encoded(self, source: Source, job: Job) -> Tensor:
        """(16, T, h, w) of a video."""
        options, nets = job.options, self.networks

        def encoded(plan: Plan) -> Tensor:
            size = options.height, options.width
            given = clip(source.frames, source.raster, *size, options.fit, nets.device)
            return nets.encode(given, plan, job.watch.check)

        with self._phase("encode", job.watch):
            return self._fit("encode", job, encoded)

    def _sample(self, x: Tensor, levels: Schedule, texts: Sequence[Tensor], image: Image | None, job: Job) -> Tensor:
        """x, noisy as the first of the levels says, after all steps."""
        options, check = job.options, job.watch.check
        steps = solver(options.solver, levels)
        with self._phase("sample", job.watch):
            denoiser = self._fit("sample", job, lambda plan: self._denoiser(texts, image, options.guidance, plan))
            for done, timestep in enumerate(levels.timesteps):
                job.watch.step(done, len(levels))
                v = self._fit("sample", job, partial(self._velocity, denoiser, x, timestep, check))
                x = steps.step(x, v)
            job.watch.step(len(levels), len(levels))
        return x

    def _denoiser(self, texts: Sequence[Tensor], image: Image | None, guidance: float, plan: Plan) -> Denoiser[Context]:
        nets = self.networks
        nets.bring("dit", plan)
        contexts = [nets.context(text, None if image is None else image.features) for text in texts]
        beside = None if image is None else image.condition.to(nets.device)
        return Denoiser(nets.dit, contexts, guidance, beside, nets.dtype)

    def _velocity(self, denoiser: Denoiser[Context], x: Tensor, timestep: float, check: Check, plan: Plan) -> Tensor:
        check()
        self.networks.bring("dit", plan)
        return denoiser.velocity(x, timestep, batched=plan.batched, check=check)

    def _decoded(self, latents: Tensor, job: Job) -> Iterator[Frame]:
        """All frames, a few at a time. Where memory runs out, decoding begins anew with a thriftier plan."""
        job.watch.phase("decode", 0)
        done, parts = 0, self._parts(latents, 0, job)
        while done < job.options.frames:
            with timed(self.seconds, "decode", self.networks.device):
                frames = unless_out_of_memory(lambda: next(parts))  # noqa: B023 - called at once
            if frames is None:
                release(self.networks.device)
                self._step_down("decode", job)
                parts = self._parts(latents, done, job)
                continue
            for frame in frames:
                yield frame
                done += 1

    def _parts(self, latents: Tensor, begin: int, job: Job) -> Iterator[list[Frame]]:
        """Frames from the `begin`-th on, up to those that were asked for."""
        at = 0
        for x in self.networks.decode(latents, self.plan.plan, job.watch.check):
            frames = x[0].movedim(1, 0)[max(begin - at, 0) : job.options.frames - at]
            first, at = max(begin, at), at + x.shape[2]
            if len(frames):
                demand_numbers(frames, self.name)
                times = [Frame((), Fraction(first + i, FPS), Fraction(1, FPS)) for i in range(len(frames))]
                yield from_rgb(frames.add(1).div_(2), times, job.target)

    def _fit(self, phase: str, job: Job, work: Callable[[Plan], R]) -> R:
        """The work done with the plan, or with thriftier ones until memory holds it. Raises OutOfMemory."""
        while (made := unless_out_of_memory(lambda: work(self.plan.plan))) is None:
            release(self.networks.device)
            self._step_down(phase, job)
        return made

    def _step_down(self, phase: str, job: Job) -> None:
        """Go on with a plan whose `phase` is thriftier. Raises OutOfMemory where there is none."""
        tried = self.plan.plan
        log.warning("out of memory in %s with %s, %d MiB were free", phase, tried, job.available // MIB)
        job.short[phase] = tried.peaks[phase]
        thriftier = following(job.plans, tried, job.short)
        if thriftier is None:
            raise none_fits(tried, job.available, "a smaller size")
        self.plan = Ran(thriftier, self.plan.attempts + 1)
        self.notes = [note for note in self.notes if note.code != "REDUCED_PLAN"]
        self.notes.append(reduced(thriftier))

    @contextmanager
    def _phase(self, name: str, watch: Watch) -> Iterator[None]:
        """Time a phase, and tell that it begins."""
        watch.check()
        watch.phase(name, 0)
        with timed(self.seconds, name, self.networks.device):
            yield
