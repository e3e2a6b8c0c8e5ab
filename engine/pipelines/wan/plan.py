"""Which way of making a video fits: what stays on the device, guidance in one pass or two, tiles, streamed blocks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.pipelines.plans import MIB
from engine.pipelines.wan.memory import Footprint

TILES = (512, 256)  # pixels
OVERLAP = 64  # pixels, of neighbouring tiles
STREAMED = 4  # parts of the transformer that may stream, one more with each rung


@dataclass(frozen=True, slots=True)
class Plan:
    """`stay`: networks on the device all the time; others come for their phase. resident: blocks of the transformer
    that do not stream through while it works. batched: guidance in one pass. tile: of the autoencoder, in pixels, 0
    for whole frames. peaks: bytes of the device, weights included, by phase.
    """

    stay: tuple[str, ...]
    resident: int
    blocks: int
    batched: bool
    tile: int
    text_on_host: bool
    peaks: Mapping[str, int]

    @property
    def bytes(self) -> int:
        return max(self.peaks.values())

    def __str__(self) -> str:
        parts = ["all networks stay" if len(self.stay) > 2 else "two networks stay" if self.stay else "none stays"]
        parts.append("guidance in one pass" if self.batched else "a pass at a time")
        parts += [f"tiles of {self.tile} pixels"] * bool(self.tile)
        parts += ["the text encoder on the host"] * self.text_on_host
        parts += [f"{self.blocks - self.resident} of {self.blocks} blocks streamed"] * (self.resident < self.blocks)
        return ", ".join([*parts, f"{self.bytes // MIB} MiB"])

    def as_reply(self) -> dict[str, Any]:
        return {
            "stay": list(self.stay),
            "guidance_in_one_pass": self.batched,
            "tile": self.tile or None,
            "text_encoder_on_host": self.text_on_host,
            "streamed_blocks": self.blocks - self.resident,
            "peak_mb": self.bytes // MIB,
        }


def ladder(footprint: Footprint) -> list[Plan]:
    """Plans from the fastest to the thriftiest: networks take turns before anything slower is done."""
    blocks = footprint.sizes.dit.layers
    everything = tuple(footprint.sizes.weights)
    stays = (everything, ("dit", "vae"), ()) if footprint.on_gpu else (everything,)
    guided = (True, False) if footprint.passes == 2 else (False,)
    plans = [_plan(footprint, stay, blocks, batched, 0, False) for stay in stays for batched in guided]
    for resident in [blocks * part // STREAMED for part in range(STREAMED, -1, -1)] if footprint.on_gpu else [blocks]:
        for on_host in (False, True) if footprint.on_gpu else (False,):
            plans += [_plan(footprint, stays[-1], resident, False, tile, on_host) for tile in _tiles(footprint)]
    return [plan for i, plan in enumerate(plans) if plan not in plans[:i]]


def following(plans: Sequence[Plan], tried: Plan, short: Mapping[str, int]) -> Plan | None:
    """The next plan that takes less than what memory ran out for, in each phase that it did so."""
    later = plans[plans.index(tried) + 1 :]
    return next((plan for plan in later if all(plan.peaks[phase] < short[phase] for phase in short)), None)


def _tiles(footprint: Footprint) -> Iterator[int]:
    yield 0
    yield from (tile for tile in TILES if tile < max(footprint.height, footprint.width))


def _plan(
    footprint: Footprint, stay: tuple[str, ...], resident: int, batched: bool, tile: int, text_on_host: bool
) -> Plan:
    peaks = footprint.peaks(stay, resident=resident, batched=batched, tile=tile, text_on_host=text_on_host)
    return Plan(stay, resident, footprint.sizes.dit.layers, batched, tile, text_on_host, peaks)
