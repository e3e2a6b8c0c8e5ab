"""What SeedVR2 plans on cards of several sizes, as a Markdown table: computed, nothing is run.

    python -m benchmarks.plans

Each video is enlarged to twice its size, in bfloat16, with default options. A card's gigabytes are 10^9 bytes, which is
less than most have; the context of CUDA and both networks' weights are taken off before a plan is chosen.
"""

from functools import cache

import torch

from engine import catalog
from engine.frames import RGB24, Raster
from engine.models.seedvr2.config import DIT_3B, DIT_7B
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAE
from engine.pipelines.seedvr2.memory import Footprint
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.plan import Plan, begin, ladder

CONTEXT = int(0.6 * 2**30)
DTYPE = torch.bfloat16
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


@cache
def autoencoder_bytes() -> int:
    """Once prepared, which takes more than its file."""
    with torch.device("meta"):
        vae = VideoVAE(VAE).to(DTYPE)
        vae.prepare()
    return sum(tensor.nbytes for tensor in [*vae.parameters(), *vae.buffers()])


def planned(name: str, size: tuple[int, int], card: int) -> Plan | None:
    """What a worker would begin with, or None when nothing fits."""
    model = catalog.built_in().find(name)
    assert model is not None and model.files[0].bytes is not None
    weights = model.files[0].bytes
    width, height = size
    options = SeedVR2Options(free_bytes=card * 10**9 - CONTEXT - weights - autoencoder_bytes())
    footprint = Footprint.of(
        DIT_3B if model.architecture == "3b" else DIT_7B,
        VAE,
        Raster(width // 2, height // 2, RGB24),
        Raster(width, height, RGB24),
        options,
        dtype=DTYPE,
        device=torch.device("cuda"),
        dit_weights=weights,
        vae_weights=autoencoder_bytes(),
    )
    plan = begin(ladder(footprint, options), options)
    return plan if plan.bytes <= options.free_bytes else None


def cell(plan: Plan | None) -> str:
    if plan is None:
        return "does not fit"
    words = [str(plan.batch), f"tiles {plan.tile}" if plan.tile else "", "offloaded" if plan.offload else ""]
    return ", ".join(word for word in words if word)


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    print("Frames at once; tiles of the autoencoder in pixels, where whole frames do not fit.\n")
    print(row(["card", "result", *MODELS]))
    print(row(["---"] * (2 + len(MODELS))))
    for card in CARDS:
        for label, size in TARGETS.items():
            print(row([f"{card} GB", label, *(cell(planned(name, size, card)) for name in MODELS.values())]))


if __name__ == "__main__":
    main()
