"""What making a video takes at most, phase by phase, against what is planned for it.

Whole runs of tiny networks on a processor, and the transformers' widths at full size on `meta`, where only the number
of layers is smaller. Weights are apart: they were there before.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from builder.tiny import wan_networks as tiny
from builder.tiny.wan_weights import tensor_by_rule
from engine.frames import RGB24, Frame, Raster
from engine.models.wan.clip import CLIPVision
from engine.models.wan.config import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig, Task
from engine.models.wan.dit import WanDiT
from engine.models.wan.rope import table
from engine.models.wan.umt5 import UMT5, UMT5_XXL
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import VAE
from engine.pipelines.generator import Source
from engine.pipelines.protocol import Unwatched
from engine.pipelines.wan.memory import Footprint, Sizes, latent_frames
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.options import WanOptions
from engine.pipelines.wan.pipeline import Wan
from engine.pipelines.wan.prompts import Tokenizer
from engine.pipelines.wan.sampling import Denoiser
from engine.pipelines.wan.schedules import schedule
from engine.pipelines.wan.solvers import solver
from engine.weights.load import load_weights
from engine.weights.packed import unpack_once
from tests.live_bytes import LiveBytes

CPU = torch.device("cpu")
OPTIONS = WanOptions(
    task="t2v",
    prompt="a cat runs over green hills",
    negative="noise",
    frames=17,
    width=192,
    height=128,
    steps=3,
    guidance=5.0,
    shift=3.0,
    solver="unipc",
    seed=0,
    free_bytes=2**40,
)


class Phases(Unwatched):
    """The most bytes of each phase."""

    def __init__(self, live: LiveBytes) -> None:
        self.live, self.name = live, ""
        self.peaks: dict[str, int] = {}

    def phase(self, name: str, done: float) -> None:
        self.peaks[self.name], self.name = self.live.peak, name
        self.live.peak = self.live.now


def networks(task: Task, device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> Networks:
    """Tiny ones, the same weights on any device."""
    with torch.device("meta"):
        text, dit, vae = UMT5(tiny.TEXT), WanDiT(tiny.DITS[task]), WanVAE(tiny.VAE)
        image = CLIPVision(tiny.IMAGE) if task == "i2v" else None
    for net in (text, dit, vae, *([image] if image else [])):
        prefix = "visual." if net is image else ""
        shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        weights = {name: tensor_by_rule(prefix + name, shape) for name, shape in shapes.items()}
        load_weights(net, weights, "by rule", device=device, dtype=dtype)
        net.eval().requires_grad_(False)
    dit.prepare()
    vae.prepare()
    return Networks(text, image, dit, vae, device, dtype)


def moving(count: int, width: int, height: int) -> Iterator[Frame]:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width + count, 3), np.uint8)
    for i in range(count):
        yield Frame((np.ascontiguousarray(pixels[:, i : i + width]),), Fraction(i, 16))


@pytest.mark.parametrize("task", ["t2v", "i2v", "v2v"])
def test_a_whole_run_stays_within_what_is_planned_for_each_phase(task: str) -> None:
    nets = networks("i2v" if task == "i2v" else "t2v")
    wan = Wan(nets, Tokenizer(tiny.tokenizer()), "tiny", negative="", build=lambda loras: lambda device: nets.dit)
    options = replace(OPTIONS, task=task)  # type: ignore[arg-type]
    raster = Raster(options.width, options.height, RGB24)
    source = None if task == "t2v" else Source(moving(1 if task == "i2v" else 17, 240, 160), Raster(240, 160, RGB24))
    with LiveBytes() as live:
        phases = Phases(live)
        for _ in wan(source, raster, options, phases):
            pass
        phases.phase("", 0)
    for phase, planned in wan.plan.plan.peaks.items():
        if phase in ("encode", "sample", "decode"):
            assert 1 <= (planned - sum(nets.sizes.weights.values())) / phases.peaks[phase] <= 2.5, phase


@pytest.mark.parametrize("batched", [True, False], ids=["one pass", "two passes"])
@pytest.mark.parametrize(
    ("config", "size", "dtype", "packed"),
    [
        (T2V_1_3B, (832, 480), torch.float32, False),
        (T2V_14B, (832, 480), torch.bfloat16, False),
        (T2V_14B, (832, 480), torch.bfloat16, True),
        (I2V_14B, (832, 480), torch.float16, False),
    ],
)
def test_sampling_at_full_size_stays_within_what_is_planned(
    config: DiTConfig, size: tuple[int, int], dtype: torch.dtype, packed: bool, batched: bool
) -> None:
    net = transformer(replace(config, layers=2), dtype, packed)
    planned = planned_sample(net.config, size, dtype, packed, batched)
    assert 1 <= planned / taken(net, size, dtype, batched) <= 1.5


def transformer(config: DiTConfig, dtype: torch.dtype, packed: bool) -> WanDiT:
    """On `meta`; packed: matrices of the layers of one byte a value, which become numbers when they are used."""
    with torch.device("meta"):
        net, weights = WanDiT(config), WanDiT(config).to(dtype).state_dict()
    for name, weight in weights.items() if packed else ():
        if name.startswith("blocks.") and weight.dim() == 2:
            weights[name] = weight.to(torch.float8_e4m3fn)
    load_weights(net, weights, "meta", dtype=dtype)
    net.requires_grad_(False).prepare()
    for block in net.blocks:
        unpack_once(block)
    return net


def planned_sample(config: DiTConfig, size: tuple[int, int], dtype: torch.dtype, packed: bool, batched: bool) -> int:
    """Without weights."""
    options = replace(OPTIONS, frames=81, width=size[0], height=size[1], task=config.task)
    weights = dict.fromkeys(("text", "vae", "dit"), 0)
    sizes = Sizes(config, VAE, UMT5_XXL, None, weights, block=0, packed=frozenset(["dit"] if packed else []))
    footprint = Footprint.of(sizes, options, 0, dtype, torch.device("cuda"))
    return footprint.peaks((), resident=2, batched=batched, tile=0, text_on_host=True)["sample"]


@torch.inference_mode()
def taken(net: WanDiT, size: tuple[int, int], dtype: torch.dtype, batched: bool) -> int:
    """By the prompts' keys and values, and three guided steps."""
    config, levels = net.config, schedule("unipc", 3, 3.0)
    table.cache_clear()  # a pass of a new size makes it
    with LiveBytes() as live, torch.device("meta"):
        image = None if config.image_dim is None else torch.empty(257, config.image_dim, dtype=dtype)
        contexts = [net.context(torch.empty(n, config.text_dim, dtype=dtype), image) for n in (60, 126)]
        x = torch.empty(16, latent_frames(81), size[1] // 8, size[0] // 8)
        condition = None if image is None else torch.empty(20, *x.shape[1:])
        denoiser, steps = Denoiser(net, contexts, 5.0, condition, dtype), solver("unipc", levels)
        for timestep in levels.timesteps:
            x = steps.step(x, denoiser.velocity(x, timestep, batched=batched, check=lambda: None))
    return live.peak
