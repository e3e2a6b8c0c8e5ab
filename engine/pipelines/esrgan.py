"""Real-ESRGAN: frames in, enlarged frames out. Batches, tiles, alpha, and thriftier plans when memory runs out."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from engine.frames import Frame, Raster
from engine.models.esrgan.bands import band_bytes, enlarge_by_bands
from engine.models.esrgan.names import build, recognise, rename
from engine.models.esrgan.rrdb import RRDBNet
from engine.models.esrgan.srvgg import SRVGG
from engine.notes import Note
from engine.pipelines.devices import release, unless_out_of_memory
from engine.pipelines.frames import from_rgb, resize, to_rgb
from engine.pipelines.plans import MIB, Cost, Plan, Ran, choose, ladder, none_fits, reduced
from engine.pipelines.protocol import UNWATCHED, Estimate, Watch
from engine.pipelines.tiling import enlarge_by_tiles
from engine.spans import chunks
from engine.weights.load import CheckpointMismatch, demand_match, load_weights, read_weights

BATCH_PIXELS = 2**21  # of the source in one pass on a GPU, where small frames would leave it idle
BATCH_FRAMES = 16
WARM_EDGE = 64
CODES_CPU, CODES_GPU = 0.5, 3.0  # copies of the result while it becomes codes: by bands, or whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EsrganOptions:
    """batch_size is a ceiling, None for what suits the device. tile is in pixels of the source, None for as large as
    fits, 0 for whole frames."""

    free_bytes: int
    batch_size: int | None = None
    tile: int | None = None
    tile_pad: int = 10
    strength: float = 1.0


class Esrgan:
    """One network on one device. `plan` and `notes` tell of the latest call, and are complete when it is exhausted."""

    plan: Ran[Plan]

    def __init__(
        self, net: SRVGG | RRDBNet, *, scale: int, name: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.net = net.eval().requires_grad_(False).to(device=device, dtype=dtype)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # which the stubs do not know
        self.scale = scale
        self.name = name
        self.device = device
        self.dtype = dtype
        self.multiple = net.config.unshuffle if isinstance(net, RRDBNet) else 1
        self.banded = isinstance(net, SRVGG) and device.type == "cpu"
        self.notes: list[Note] = []
        self.seconds: dict[str, float] = {}  # its work has no phases
        self._seconds_per_pixel: float | None = None

    def __call__(
        self,
        frames: Iterable[Frame],
        source: Raster,
        target: Raster,
        options: EsrganOptions,
        watch: Watch = UNWATCHED,
    ) -> Iterator[Frame]:
        """A frame of `target` for each frame, in order. Raises OutOfMemory, and what `watch` raises between batches."""
        plans = self._plans(source, target, options)
        first = self._first(plans, options)
        self.plan, self.notes = Ran(plans[first], attempts=1), []
        return self._stream(frames, source, target, options, watch, plans[first:])

    def estimate(self, source: Raster, target: Raster, options: EsrganOptions) -> Estimate:
        """What a call would take. Runs one tiny shape if none has run yet, to know the speed."""
        plans = self._plans(source, target, options)
        plan = plans[self._first(plans, options)]
        if self._seconds_per_pixel is None:
            self.warm(options.free_bytes)
        assert self._seconds_per_pixel is not None
        passes = 2 if source.pixel.alpha and target.pixel.alpha else 1
        seconds = passes * self._seconds_per_pixel * source.width * source.height
        return Estimate(Ran(plan, attempts=0), plan.bytes, seconds)

    def warm(self, free_bytes: int) -> float:
        """Run one tiny shape twice, so that kernels are chosen and the speed is known; seconds it took."""
        x = torch.rand(1, 3, WARM_EDGE, WARM_EDGE, device=self.device)
        begun = time.perf_counter()
        self._timed_pass(x)
        self._seconds_per_pixel = self._timed_pass(x) / WARM_EDGE**2
        return time.perf_counter() - begun

    def _timed_pass(self, x: Tensor) -> float:
        begun = time.perf_counter()
        with torch.inference_mode():
            self._run(x).mean().item()  # reading a number waits for the device
        return time.perf_counter() - begun

    def _stream(
        self,
        frames: Iterable[Frame],
        source: Raster,
        target: Raster,
        options: EsrganOptions,
        watch: Watch,
        plans: Sequence[Plan],
    ) -> Iterator[Frame]:
        for waiting in chunks(frames, plans[0].batch):
            while waiting:
                watch.check()
                plan = self.plan.plan
                batch = waiting[: plan.batch]
                done = unless_out_of_memory(partial(self._restore, batch, source, target, plan, options.strength))
                if done is None:
                    release(self.device)
                    self._step_down(plans, options.free_bytes)
                    continue
                yield from done
                waiting = waiting[len(batch) :]

    def _step_down(self, plans: Sequence[Plan], free_bytes: int) -> None:
        """Go on with the next thriftier plan. Raises OutOfMemory after the last."""
        tried = self.plan.plan
        log.warning("out of memory with %s, %d MiB were free", tried, free_bytes // MIB)
        following = plans[plans.index(tried) + 1 :]
        if not following:
            raise none_fits(tried, free_bytes, "a source of fewer pixels")
        self.plan = Ran(following[0], self.plan.attempts + 1)
        self.notes = [reduced(following[0])]

    def _restore(
        self, frames: Sequence[Frame], source: Raster, target: Raster, plan: Plan, strength: float
    ) -> list[Frame]:
        x = to_rgb(frames, source, self.device, torch.float32)
        if not target.pixel.alpha and x.shape[1] == 4:
            x = x[:, :3] * x[:, 3:]  # laid on black: what lies under transparent pixels is anything
        size = target.height, target.width
        y = self._enlarge(x, plan)
        if y.shape[2:] != size or strength < 1:
            y = resize(y.clamp_(0, 1), *size)  # what overshoots must not spread; from_rgb clamps the rest
        if strength < 1:
            y = torch.lerp(resize(x, *size), y, strength)
        return from_rgb(y, frames, target)

    def _enlarge(self, x: Tensor, plan: Plan) -> Tensor:  # (B, 3|4, H, W) -> (B, 3|4, sH, sW)
        colour = self._by_tiles(x[:, :3], plan)
        if x.shape[1] == 3:
            return colour
        opacity = x[:, 3:]
        if bool((opacity == 1).all()):
            return torch.cat((colour, torch.ones_like(colour[:, :1])), dim=1)
        grey = self._by_tiles(opacity.expand(-1, 3, -1, -1), plan)  # as published: alpha is a grey picture of its own
        luma = grey.new_tensor((0.299, 0.587, 0.114)).view(3, 1, 1)
        return torch.cat((colour, grey.clamp_(0, 1).mul_(luma).sum(1, keepdim=True)), dim=1)

    def _by_tiles(self, x: Tensor, plan: Plan) -> Tensor:
        return enlarge_by_tiles(
            self._run, x, scale=self.scale, tile=plan.tile, pad=plan.tile_pad, multiple=self.multiple
        )

    def _run(self, x: Tensor) -> Tensor:
        if self.banded and isinstance(self.net, SRVGG):
            return enlarge_by_bands(self.net, x)
        y: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return y

    def _plans(self, source: Raster, target: Raster, options: EsrganOptions) -> list[Plan]:
        batch = options.batch_size
        if batch is None:  # a CPU is busy with one frame already
            pixels = source.width * source.height
            batch = 1 if self.device.type == "cpu" else min(max(BATCH_PIXELS // pixels, 1), BATCH_FRAMES)
        return list(
            ladder(
                self._cost(source, target, options),
                source.height,
                source.width,
                batch=batch,
                tile=options.tile,
                tile_pad=options.tile_pad,
                multiple=self.multiple,
            )
        )

    def _first(self, plans: Sequence[Plan], options: EsrganOptions) -> int:
        """Which plan to begin with. Whole frames are begun with when asked for, whatever they are thought to take."""
        roomiest = [plan for plan in plans if plan.tile == 0] if options.tile == 0 else plans
        return choose(roomiest, options.free_bytes)

    def _cost(self, source: Raster, target: Raster, options: EsrganOptions) -> Cost:
        inside, floor = self.net.config.bytes_per_pixel(self.dtype.itemsize), 0
        if self.banded and isinstance(self.net, SRVGG):
            inside, floor = 0.0, band_bytes(self.net.config, source.width, self.dtype)
        size = (self.scale * source.width, self.scale * source.height)
        return Cost(
            inside=inside,
            floor=floor,
            scale=self.scale,
            channels=4 if source.pixel.alpha and target.pixel.alpha else 3,
            ratio=target.width * target.height / (source.width * source.height),
            copies=CODES_CPU if self.device.type == "cpu" else CODES_GPU,
            resized=options.strength < 1 or (target.width, target.height) != size,
        )


def load_esrgan(
    paths: Sequence[Path], denoise_strength: float | None, device: torch.device, dtype: torch.dtype
) -> Esrgan:
    """The network of a checkpoint of either architecture. Raises CheckpointMismatch.

    Of two checkpoints, realesr-general-x4v3 and its gentler twin, the mix: 1 is all the first, 0 all the second.
    """
    net, weights = open_esrgan(paths, denoise_strength)
    load_weights(net, weights, paths[0].name)
    return Esrgan(net, scale=net.config.scale, name=paths[0].stem, device=device, dtype=dtype)


def open_esrgan(
    paths: Sequence[Path], denoise_strength: float | None = None
) -> tuple[SRVGG | RRDBNet, dict[str, Tensor]]:
    """The network on `meta`, and weights that are all its own. Raises CheckpointMismatch."""
    first, *others = paths
    weights = rename(read_weights(first))
    for other in others:
        weights = _mixed(weights, rename(read_weights(other)), 0.5 if denoise_strength is None else denoise_strength)
    config = recognise(weights)
    if config is None or config.colours != 3:
        raise CheckpointMismatch(first.name, "it is neither SRVGGNetCompact nor RRDBNet for pictures of three colours")
    with torch.device("meta"):
        net = build(config)
    demand_match(net, weights, first.name)
    return net, weights


def _mixed(general: dict[str, Tensor], gentle: dict[str, Tensor], strength: float) -> dict[str, Tensor]:
    """strength * general + (1 - strength) * gentle, tensor by tensor."""
    if general.keys() != gentle.keys():
        raise CheckpointMismatch("the second checkpoint", "it has other names than the first and cannot be mixed")
    return {name: torch.lerp(gentle[name], tensor, strength) for name, tensor in general.items()}
