"""How much arithmetic the models take, as Markdown tables: counted on shapes alone, nothing is run.

    python -m benchmarks.operations [esrgan | seedvr2 | wan]

In tera-operations (10^12); a multiplication and an addition are two. Divided by what a card computes in a second they
are the least that it takes; which part of its peak a card reaches in these networks the `*_gpu` benchmarks tell.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.card import counted
from benchmarks.plans import TARGETS, WAN_TARGETS, row, show
from benchmarks.seedvr2 import full_size
from benchmarks.wan.full_size import dit_operations, vae_operations
from engine.models.esrgan.rrdb import X2PLUS, X4PLUS, X4PLUS_ANIME_6B, RRDBNet
from engine.models.esrgan.srvgg import ANIMEVIDEO_V3, GENERAL_X4V3, SRVGG, SRVGGConfig
from engine.models.seedvr2.config import DIT_3B, DIT_7B
from engine.models.seedvr2.vae_config import VAE
from engine.models.wan.config import I2V_14B, T2V_1_3B, T2V_14B
from engine.models.wan.vae_config import VAE as WAN_VAE

FRAMES = 21  # of a batch of SeedVR2
CLIP = 81  # frames that Wan2.1 makes at once
COMPACT = {
    "bundled": SRVGGConfig(feat=32, convs=10, scale=2),
    "realesr-animevideov3": ANIMEVIDEO_V3,
    "realesr-general-x4v3": GENERAL_X4V3,
}
DENSE = {"RealESRGAN_x2plus": X2PLUS, "RealESRGAN_x4plus_anime_6B": X4PLUS_ANIME_6B, "RealESRGAN_x4plus": X4PLUS}


def esrgan() -> None:
    """Of a frame: all grows with the source's pixels."""
    head(["a frame of the source", "640x480", "1280x720"])
    with torch.device("meta"):
        nets = {name: SRVGG(config) for name, config in COMPACT.items()}
        nets |= {name: RRDBNet(config) for name, config in DENSE.items()}
    for name, net in nets.items():
        print(row([f"`{name}`", *(tera(of_picture(net, *size)) for size in ((480, 640), (720, 1280)))]))


def of_picture(net: nn.Module, height: int, width: int) -> int:
    return counted(lambda: net(torch.empty(1, 3, height, width, device="meta")))


def seedvr2() -> None:
    """Of a frame of a batch: all but the attention grows with the result's pixels."""
    head(["a frame of the result", *TARGETS])
    for name, config in (("3B", DIT_3B), ("7B", DIT_7B)):
        nets = SimpleNamespace(dit=SimpleNamespace(config=config), vae=SimpleNamespace(config=VAE))
        counts = [full_size.operations(nets, FRAMES, *padded(size)) for size in TARGETS.values()]  # type: ignore[arg-type]
        print(row([f"SeedVR2 {name}", *(tera(sum(count.values()) / FRAMES) for count in counts)]))


def padded(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width as the networks see them, multiples of 16."""
    width, height = size
    return -(-height // 16) * 16, -(-width // 16) * 16


def wan() -> None:
    """Of a step under guidance, which is two passes, and of decoding, once."""
    head([f"{CLIP} frames", *WAN_TARGETS])
    for name, config in (("T2V-1.3B", T2V_1_3B), ("T2V-14B", T2V_14B), ("I2V-14B", I2V_14B)):
        latents = [((CLIP + 3) // 4, height // 8, width // 8) for width, height in WAN_TARGETS.values()]
        print(row([f"{name}, a guided step", *(tera(2 * dit_operations(config, latent)) for latent in latents)]))
    counts = [vae_operations(WAN_VAE, CLIP, height, width) for width, height in WAN_TARGETS.values()]
    for phase, label in (("encode", "encoding an image's condition"), ("decode", "decoding")):
        print(row([label, *(tera(count[phase]) for count in counts)]))


def head(cells: Sequence[str]) -> None:
    print(row(cells))
    print(row(["---"] * len(cells)))


def tera(operations: float) -> str:
    """Three digits."""
    value = operations / 1e12
    return f"{value:.2f}" if value < 10 else f"{float(f'{value:.3g}'):,.0f}"


if __name__ == "__main__":
    with torch.inference_mode():
        show("benchmarks.operations", __doc__, {"esrgan": esrgan, "seedvr2": seedvr2, "wan": wan})
