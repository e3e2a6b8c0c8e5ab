"""SeedVR2: frames in, restored frames out. Batches that overlap, blended across every border; thriftier plans when
memory runs out; colours kept as the source has them.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from engine.frames import RGB24, Frame, Raster
from engine.notes import Note
from engine.pipelines.devices import demand_numbers, release, timed, unless_out_of_memory
from engine.pipelines.plans import MIB, Ran, none_fits, reduced
from engine.pipelines.protocol import UNWATCHED, Watch
from engine.pipelines.scenes import Cuts
from engine.pipelines.seedvr2.batches import Batch, Batches
from engine.pipelines.seedvr2.finish import Job, finished, source_rgb
from engine.pipelines.seedvr2.memory import Footprint
from engine.pipelines.seedvr2.networks import Networks
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.plan import Plan, begin, following, ladder, overridden
from engine.pipelines.seedvr2.preparation import add_noise, blend_weights, clip_indices, prepare
from engine.pipelines.seedvr2.sampling import condition_noise, draw_noise

SHARES = {"encode": 0.0, "dit": 0.25, "decode": 0.45, "color": 0.95}  # of a batch's work done when the phase begins
WARM_EDGE = 64

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Waiting:
    """Restored frames whose last ones the next batch may still be blended into; y (T, 3, H, W) in [-1, 1]."""

    frames: list[Frame]
    y: Tensor
    begins: int  # frames of the result before these; below 0 for those put in front


class SeedVR2:
    """Both networks on one device. `plan`, `notes`, `seconds` tell of the latest call, whole when it is exhausted."""

    plan: Ran[Plan]

    def __init__(self, networks: Networks, name: str, notes: Sequence[Note] = ()) -> None:
        self.networks = networks
        self.name = name
        self.notes: list[Note] = []
        self.seconds: dict[str, float] = {}
        self._about = tuple(notes)  # what is to be said of the checkpoint whenever it is used
        self._noise: tuple[object, tuple[Tensor, Tensor]] | None = None

    def __call__(
        self, frames: Iterable[Frame], source: Raster, target: Raster, options: SeedVR2Options, watch: Watch = UNWATCHED
    ) -> Iterator[Frame]:
        """A frame of `target` for each frame, in order. Raises OutOfMemory, Internal, and what `watch.check` raises."""
        nets = self.networks
        options = replace(options, free_bytes=options.free_bytes - nets.away_bytes)
        job = Job(source, target, options, watch)
        footprint = Footprint.of(
            nets.dit.config,
            nets.vae.config,
            source,
            target,
            options,
            dtype=nets.dtype,
            device=nets.device,
            dit_weights=nets.dit_bytes,
            vae_weights=nets.vae_bytes,
        )
        plans = ladder(footprint, options)
        first = begin(plans, options)
        self.plan, self.notes = Ran(first, attempts=1), [*self._about, *overridden(first, options)]
        self.seconds = dict.fromkeys(SHARES, 0.0)
        return islice(self._stream(frames, job, plans), job.prepended, None)

    def warm(self, free_bytes: int) -> float:
        """Run one tiny picture, so that kernels are chosen; the seconds it took."""
        begun = time.perf_counter()
        raster = Raster(WARM_EDGE, WARM_EDGE, RGB24)
        frame = Frame((np.zeros((WARM_EDGE, WARM_EDGE, 3), np.uint8),), Fraction(0))
        for _ in self([frame], raster, raster, SeedVR2Options(free_bytes=free_bytes, frames=1)):
            pass
        return time.perf_counter() - begun

    def _stream(self, frames: Iterable[Frame], job: Job, plans: Sequence[Plan]) -> Iterator[Frame]:
        options = job.options
        cuts = Cuts(job.source.pixel.bits)
        batches = Batches(frames, cuts.is_cut if options.temporal else lambda frame: False, job.prepended)
        try:
            yield from self._batches(batches, job, plans)
        finally:
            self._noise = None

    def _batches(self, batches: Batches[Frame], job: Job, plans: Sequence[Plan]) -> Iterator[Frame]:
        waiting: Waiting | None = None
        done = -job.prepended
        while (batch := batches.take(self.plan.plan.batch, self.plan.plan.overlap)) is not None:
            y = unless_out_of_memory(partial(self._restore, batch, job, done))
            if y is None:
                release(self.networks.device)
                self._step_down(plans, job.options)
                continue
            if waiting is not None:
                blend(waiting.y, y, batch.shared)
                yield from self._finish(waiting, job)
            waiting = Waiting(batch.frames[batch.shared :], y[batch.shared :], done)
            done += len(waiting.frames)
            overlap = self.plan.plan.overlap
            batches.done(batch, overlap)
            if batch.last or not overlap:
                yield from self._finish(waiting, job)
                waiting = None

    def _restore(self, batch: Batch[Frame], job: Job, done: int) -> Tensor:
        nets, options, plan = self.networks, job.options, self.plan.plan
        check, new = job.watch.check, len(batch.frames) - batch.shared
        with self._phase("encode", done, new, job):
            clip = self._clip(batch.frames, job)
            latent = nets.encode(clip, plan, check)
            del clip
        with self._phase("dit", done, new, job):
            noise, second = self._draw(latent, options)
            latent = condition_noise(latent, options.latent_noise_scale, noise, second)
            latent = nets.restore(latent, noise, plan, check)
        with self._phase("decode", done, new, job):
            y = nets.decode(latent, plan, check)  # (B, 3, F, H, W)
            y = y[0].movedim(0, 1) if options.temporal else y[:, :, 0]
            y = y[: len(batch.frames), :, : job.size[0], : job.size[1]]
            demand_numbers(y, self.name)
        return y

    def _clip(self, frames: Sequence[Frame], job: Job) -> Tensor:
        """(1, 3, F, H, W) of one clip, or (B, 3, 1, H, W) of pictures, in [-1, 1], as the autoencoder wants it."""
        options = job.options
        x = prepare(source_rgb(frames, job, self.networks.device)[:, :3], *job.size)
        x = add_noise(x, options.input_noise_scale, options.seed, same=not options.temporal)
        if not options.temporal:
            return x[:, :, None]
        least = self.plan.plan.batch if options.uniform_batch_size else 0
        return x[clip_indices(len(frames), least)].movedim(0, 1)[None]

    def _draw(self, latent: Tensor, options: SeedVR2Options) -> tuple[Tensor, Tensor]:
        """The noise of a latent of that shape, kept for the next of the same, as every batch has the same noise."""
        key = (options.seed, latent.shape[1:])
        if self._noise is None or self._noise[0] != key:
            self._noise = None
            self._noise = key, draw_noise(latent.shape[1:], options.seed, self.networks.device)
        return self._noise[1]

    def _finish(self, waiting: Waiting, job: Job) -> list[Frame]:
        """Frames of the target. Where the GPU has no memory left for that, it is done on the host."""
        with self._phase("color", waiting.begins, len(waiting.frames), job), torch.inference_mode():
            if waiting.y.device.type == "cpu":
                return finished(waiting.frames, waiting.y, job)
            done = unless_out_of_memory(lambda: finished(waiting.frames, waiting.y, job))
            if done is not None:
                return done
            release(self.networks.device)
            self._tell(Note("COLORS_ON_HOST", "memory ran out on the GPU, so colours were corrected on the host"))
            return finished(waiting.frames, waiting.y.cpu(), job)

    def _step_down(self, plans: Sequence[Plan], options: SeedVR2Options) -> None:
        """Go on with a thriftier plan. Raises OutOfMemory after the last."""
        tried = self.plan.plan
        log.warning("out of memory with %s, %d MiB were free", tried, options.free_bytes // MIB)
        thriftier = following(plans, tried)
        if thriftier is None:
            raise none_fits(tried, options.free_bytes, "a lower resolution")
        self.plan = Ran(thriftier, self.plan.attempts + 1)
        self._tell(reduced(thriftier))
        self._tell(*overridden(thriftier, options))

    def _tell(self, *notes: Note) -> None:
        """Each in place of what was told under its code before."""
        codes = {note.code for note in notes}
        self.notes = [*(note for note in self.notes if note.code not in codes), *notes]

    @contextmanager
    def _phase(self, name: str, begins: int, frames: int, job: Job) -> Iterator[None]:
        """Time a phase of a batch of `frames` new ones, and tell that it begins."""
        job.watch.check()
        job.watch.phase(name, max(begins + SHARES[name] * frames, 0))
        with timed(self.seconds, name, self.networks.device):
            yield


def blend(before: Tensor, y: Tensor, shared: int) -> None:
    """Mix the first `shared` frames of a batch into the last ones of the batch before, in place."""
    if not shared:
        return
    with torch.inference_mode():
        weights = blend_weights(shared).to(before.device).view(-1, 1, 1, 1)
        mixed = torch.lerp(y[:shared].float(), before[-shared:].float(), weights)
        before[-shared:] = mixed.to(before.dtype)
