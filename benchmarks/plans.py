"""What SeedVR2 and Wan2.1 plan on cards of several sizes, as Markdown tables: computed, nothing is run.

    python -m benchmarks.plans [seedvr2 | wan]

All in bfloat16, with default options. A card's gigabytes are 10^9 bytes, which is less than most have; the context of
CUDA is taken off before a plan is chosen, and the weights. SeedVR2 enlarges each video to twice its size, Wan2.1 makes
81 frames under guidance.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

from builder import needs
from builder.needs import CONTEXT, seedvr2_footprint
from engine.catalog import Model, built_in
from engine.frames import RGB24, Raster
from engine.pipelines.plans import choose
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.plan import Plan, begin, ladder
from engine.pipelines.wan import plan as wan_plan

Size = tuple[int, int]  # width, height

CARDS = (8, 16, 24, 48, 80, 141)  # 10^9 bytes
TARGETS = {"1080p": (1920, 1080), "4K": (3840, 2160)}
MODELS = {
    "3B fp16": "seedvr2_ema_3b_fp16",
    "3B fp8": "seedvr2_ema_3b_fp8_e4m3fn",
    "3B Q4_K": "seedvr2_ema_3b-Q4_K_M",
    "7B fp16": "seedvr2_ema_7b_fp16",
    "7B mixed": "seedvr2_ema_7b_fp8_e4m3fn_mixed_block35_fp16",
    "7B Q4_K": "seedvr2_ema_7b-Q4_K_M",
}
WAN_TARGETS = {"480P": (832, 480), "720P": (1280, 720)}
WAN_MODELS = {  # of image-to-video the 720P's files are of the same sizes
    "1.3B bf16": "wan21-t2v-1.3b-bf16",
    "T2V-14B bf16": "wan21-t2v-14b-bf16",
    "T2V-14B fp8": "wan21-t2v-14b-fp8",
    "T2V-14B Q4_K_M": "wan21-t2v-14b-q4_k_m",
    "I2V-14B bf16": "wan21-i2v-480p-bf16",
    "I2V-14B fp8": "wan21-i2v-480p-fp8",
    "I2V-14B Q4_K_M": "wan21-i2v-480p-q4_k_m",
}


def known(name: str) -> Model:
    model = built_in().find(name)
    assert model is not None
    return model


def planned(name: str, size: Size, card: int) -> Plan | None:
    """What a worker would begin with, or None when nothing fits."""
    width, height = size
    free, options = card * 10**9 - CONTEXT, SeedVR2Options(free_bytes=0)
    source, target = Raster(width // 2, height // 2, RGB24), Raster(width, height, RGB24)
    weights, footprint = seedvr2_footprint(known(name), source, target, options)
    options = replace(options, free_bytes=free - weights)
    plan = begin(ladder(footprint, options), options)
    return plan if plan.bytes <= options.free_bytes else None


def cell(plan: Plan | None) -> str:
    if plan is None:
        return "does not fit"
    words = [str(plan.batch), f"tiles {plan.tile}" if plan.tile else "", "offloaded" if plan.offload else ""]
    return ", ".join(word for word in words if word)


def wan_planned(name: str, size: Size, card: int) -> wan_plan.Plan | None:
    """What a worker would begin with, or None when nothing fits."""
    plans, free = wan_plans(name, size), card * 10**9 - CONTEXT
    plan = plans[choose(plans, free)]
    return plan if plan.bytes <= free else None


@cache
def wan_plans(name: str, size: Size) -> Sequence[wan_plan.Plan]:
    """For any card, from the fastest on."""
    return needs.wan(known(name), size)


def wan_cell(plan: wan_plan.Plan | None) -> str:
    if plan is None:
        return "does not fit"
    stays = {0: "in turn", 2: "transformer and VAE stay"}.get(len(plan.stay), "all stay")
    words = [stays, "one pass" if plan.batched else "two passes"]
    words += [f"tiles {plan.tile}"] * bool(plan.tile)
    words += ["text on host"] * plan.text_on_host
    words += [f"{plan.blocks - plan.resident} of {plan.blocks} blocks streamed"] * (plan.resident < plan.blocks)
    return f"{', '.join(words)}; {plan.bytes / 1e9:.1f} GB"


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(heads: Sequence[str], targets: Mapping[str, Size], filled: Callable[[int, Size], Sequence[str]]) -> None:
    """A row for each card and target."""
    print(row(["card", "result", *heads]))
    print(row(["---"] * (2 + len(heads))))
    for card in CARDS:
        for label, size in targets.items():
            print(row([f"{card} GB", label, *filled(card, size)]))


def seedvr2() -> None:
    print("Frames at once; tiles of the autoencoder in pixels, where whole frames do not fit.\n")
    table(MODELS, TARGETS, lambda card, size: [cell(planned(name, size, card)) for name in MODELS.values()])


def wan() -> None:
    print("What stays on the card, passes of a guided step, what else is done to fit; the most that is held then.\n")
    table(
        WAN_MODELS,
        WAN_TARGETS,
        lambda card, size: [wan_cell(wan_planned(name, size, card)) for name in WAN_MODELS.values()],
    )


def show(name: str, description: str | None, families: Mapping[str, Callable[[], None]]) -> None:
    """The command of that name: the table of the family that its argument names, or all."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", nargs="?", choices=families, help="whose table (default: all)")
    asked = parser.parse_args().family
    for i, family in enumerate([asked] if asked else families):
        print("\n" * bool(i), end="")
        families[family]()


if __name__ == "__main__":
    show("benchmarks.plans", __doc__, {"seedvr2": seedvr2, "wan": wan})
