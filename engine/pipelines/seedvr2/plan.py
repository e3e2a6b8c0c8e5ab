"""Which way of restoring fits: batch, slices and tiles of the VAE, networks offloaded in turn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.notes import Note
from engine.pipelines.plans import MIB, choose
from engine.pipelines.seedvr2.memory import Footprint
from engine.pipelines.seedvr2.options import SeedVR2Options

BATCHES = (401, 301, 241, 201, 161, 121, 81, 61, 41, 29, 21, 13, 9, 5, 1)  # frames, all 4n+1
MOST = 81  # unless more is asked for: what more would gain is not worth waiting for the first frame
MOST_ON_CPU = 21  # more is no faster there, and a caller would wait minutes for the first frame
STILLS = (8, 4, 2, 1)
TILES = (1024, 768, 512, 384, 256)
MUCH_LESS = 0.9  # of the memory that was not there: what is worth trying next


@dataclass(frozen=True, slots=True)
class Plan:
    """`batch` frames at once, `overlap` of them shared with the next. The VAE takes `slice_latents` latent frames at
    a time (0: all) in tiles of `tile` pixels (0: whole frames). offload: a network that rests leaves the GPU.
    """

    batch: int
    overlap: int
    slice_latents: int
    tile: int
    tile_overlap: int
    offload: bool
    bytes: int

    def __str__(self) -> str:
        parts = [f"batch {self.batch}", f"tiles of {self.tile} pixels" if self.tile else "whole frames"]
        if self.slice_latents:
            parts.append(f"{self.slice_latents} latent frame at a time")
        if self.offload:
            parts.append("resting networks offloaded")
        return ", ".join([*parts, f"{self.bytes // MIB} MiB"])

    def as_reply(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch,
            "temporal_overlap": self.overlap,
            "tile": self.tile or None,
            "tile_overlap": self.tile_overlap if self.tile else None,
            "latents_at_once": self.slice_latents or None,
            "offload": self.offload,
        }


def ladder(footprint: Footprint, options: SeedVR2Options) -> list[Plan]:
    """Plans from the roomiest to the thriftiest: smaller tiles first, then smaller batches, then offloading.

    A batch of one frame comes last of all: a video restored frame by frame flickers.
    """
    sizes = list(batch_sizes(options, on_gpu=footprint.on_gpu))
    last = [size for size in sizes[1:] if size == 1 and options.temporal]
    groups = (sizes[: len(sizes) - len(last)], last)
    return [
        _plan(footprint, options, batch, tile, overlap, offload=offload)
        for group in groups
        for offload in ((False, True) if footprint.on_gpu else (False,))
        for batch in group
        for tile, overlap in _tiles(footprint, options)
    ]


def begin(plans: Sequence[Plan], options: SeedVR2Options) -> Plan:
    """The roomiest plan that is thought to fit; without tiles when they are refused, whatever that takes."""
    able = [plan for plan in plans if not plan.tile] if options.vae_tiling == "off" else plans
    return able[choose(able, options.free_bytes)]


def following(plans: Sequence[Plan], tried: Plan) -> Plan | None:
    """The next plan that takes clearly less than `tried`, for which memory ran out; None after the thriftiest."""
    later = plans[plans.index(tried) + 1 :]
    return next((plan for plan in later if plan.bytes <= MUCH_LESS * tried.bytes), None)


def overridden(plan: Plan, options: SeedVR2Options) -> Iterator[Note]:
    """What is to be said of a plan that holds, or shares, fewer frames than were asked for and than there are."""
    if options.frames is not None and plan.batch >= options.frames:
        return
    wanted, shared = options.batch_size, options.temporal_overlap
    if wanted is not None and plan.batch < wanted:
        yield Note("BATCH_CAPPED", f"batch_size {wanted} was capped at {plan.batch}, what memory holds")
    if options.temporal and shared is not None and plan.overlap < shared:
        text = f"temporal_overlap {shared} was reduced to {plan.overlap}: no more than half of {plan.batch} is shared"
        yield Note("OVERLAP_REDUCED", text)


def batch_sizes(options: SeedVR2Options, *, on_gpu: bool) -> Iterator[int]:
    """Sizes to try, falling: what was asked for, or what suits the device; no more than there are frames."""
    sizes = BATCHES if options.temporal else STILLS
    suited = (MOST if on_gpu else MOST_ON_CPU) if options.temporal else STILLS[0] if on_gpu else 1
    wanted = options.batch_size or suited
    if options.frames is not None and not (options.uniform_batch_size and options.batch_size):
        frames = options.frames + options.prepend_frames
        wanted = min(wanted, (frames + 2) // 4 * 4 + 1 if options.temporal else frames)
    yield wanted
    yield from (size for size in sizes if size < wanted)


def shared_frames(options: SeedVR2Options, batch: int) -> int:
    """The overlap for a batch of that size: as asked, at most half of it; otherwise as little as blends."""
    if not options.temporal or batch == 1:
        return 0
    if options.temporal_overlap is None:
        return 3 if batch >= 13 else 1
    return min(options.temporal_overlap, batch // 2)


def _tiles(footprint: Footprint, options: SeedVR2Options) -> Iterator[tuple[int, int]]:
    """(tile, overlap) for the autoencoder, falling; 0 for whole frames."""
    edge = max(footprint.height, footprint.width)
    if options.vae_tiling != "on" or options.vae_tile >= edge:
        yield 0, 0
    for tile in sorted({options.vae_tile, *TILES}, reverse=True):
        if tile < edge and tile <= options.vae_tile:
            yield tile, options.vae_overlap if tile == options.vae_tile else tile // 8


def _plan(footprint: Footprint, options: SeedVR2Options, batch: int, tile: int, overlap: int, *, offload: bool) -> Plan:
    """The plan of that batch and tile with whichever slices take less: thin ones hold history, thick ones frames."""
    shared = shared_frames(options, batch)
    frames, clips = (batch, 1) if options.temporal else (1, batch)

    def peak(slice_latents: int) -> int:
        return footprint.peak(
            frames, clips, pending=shared > 0, slice_latents=slice_latents, tile=tile, offload=offload
        )

    slice_latents = min((0, 1), key=peak)
    return Plan(batch, shared, slice_latents, tile, overlap, offload, peak(slice_latents))
