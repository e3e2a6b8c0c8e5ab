"""What a job would take, from the files' headers or the architecture alone: no weights are read."""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TypeVar

import torch

from engine.frames import Raster
from engine.models.wan import clip_names, names, umt5_names, vae_names
from engine.models.wan.clip import VIT_H
from engine.models.wan.config import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig
from engine.models.wan.dit import WanDiT
from engine.models.wan.umt5 import UMT5_XXL
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import VAE, WanVAEConfig
from engine.pipelines.devices import operations_per_second
from engine.pipelines.plans import Ran, choose
from engine.pipelines.protocol import Estimate
from engine.pipelines.wan.limits import steps_run
from engine.pipelines.wan.load import Files, network_bytes, read_transformer
from engine.pipelines.wan.memory import Footprint, Sizes, latent_frames
from engine.pipelines.wan.options import WanOptions
from engine.pipelines.wan.plan import ladder
from engine.pipelines.wan.windows import remark, windows
from engine.weights.load import open_all
from engine.weights.stored import Stored

# Multiply-adds of the autoencoder as we run it, for each pixel of each frame.
DECODE = 2.3e6
ENCODE = {"t2v": 0.0, "i2v": 0.5e6, "v2v": 1.5e6}
EFFICIENCY = 0.5  # of the rate of a large matrix product that a whole job reaches
UMT5_PARAMETERS, CLIP_PARAMETERS = 5_680_910_336, 612_000_000  # as published, of CLIP what is read
PUBLISHED = {"t2v-1.3b": T2V_1_3B, "t2v-14b": T2V_14B, "i2v-14b-480p": I2V_14B, "i2v-14b-720p": I2V_14B}

T = TypeVar("T")


def estimate(
    files: Files,
    architecture: str | None,
    *,
    published: Mapping[str, int],
    options: WanOptions,
    source: Raster | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Estimate:
    """The plan a call would begin with, and what it takes. Seconds are a guess from the device's rate of arithmetic.

    published: bytes of the files by role, for those that are not here. options.free_bytes: of the device, whatever of
    the model is there already included. Raises CheckpointMismatch, UnknownModel.
    """
    sizes = model_sizes(files, architecture, dtype, published)
    pixels = source.width * source.height if source else 0
    footprint = Footprint.of(sizes, options, pixels, dtype, device)
    plans = ladder(footprint)
    plan = plans[choose(plans, options.free_bytes)]
    seconds = 2 * multiply_adds(sizes, options) / (EFFICIENCY * operations_per_second(device, dtype))
    notes = (*remark(latent_frames(options.frames)),)
    return Estimate(Ran(plan, attempts=0), plan.bytes, seconds / options.frames, notes)


def model_sizes(
    files: Files, architecture: str | None, dtype: torch.dtype, published: Mapping[str, int] = MappingProxyType({})
) -> Sizes:
    """Networks and their bytes in memory: of the files that are here, else as published, in `dtype`."""
    wide = dtype if dtype == torch.float32 else torch.bfloat16

    def unread(role: str, parameters: int, dtype: torch.dtype) -> int:
        """What is stored wide becomes `dtype`, and what is packed stays so."""
        return min(published.get(role, parameters * dtype.itemsize), parameters * dtype.itemsize)

    checkpoint = read_transformer(files) if files.get("dit") else None
    dit = checkpoint.config if checkpoint else PUBLISHED.get(architecture or "", T2V_14B)
    text = _read(files, "text_encoder", umt5_names.parse)
    vae = _read(files, "vae", vae_names.parse)
    image = _read(files, "image_encoder", clip_names.parse) if dit.image_dim is not None else None
    whole, one = _parameters(dit)
    weights = {  # in the order of Networks', so that an estimate's plan reads as the job's
        "text": network_bytes(text.weights, wide) if text else unread("text_encoder", UMT5_PARAMETERS, wide),
        "vae": _autoencoder_bytes(vae.config if vae else VAE, dtype),
    }
    if dit.image_dim is not None:
        weights["image"] = (
            network_bytes(image.weights, dtype) if image else unread("image_encoder", CLIP_PARAMETERS, dtype)
        )
    weights["dit"] = (
        network_bytes(checkpoint.weights, dtype, names.stays_wide) if checkpoint else unread("dit", whole, dtype)
    )
    return Sizes(
        dit,
        vae.config if vae else VAE,
        text.config if text else UMT5_XXL,
        None if dit.image_dim is None else image.config if image else VIT_H,
        weights,
        block=weights["dit"] * one // whole,
        packed=_packed(weights, {"dit": whole * dtype.itemsize, "text": _text_parameters(text) * wide.itemsize}),
    )


def multiply_adds(sizes: Sizes, options: WanOptions) -> float:
    """Of the whole job; the encoders of text and image, which are small beside it, are left out."""
    dit, latents = sizes.dit, latent_frames(options.frames)
    steps = options.steps
    if options.task == "v2v":
        steps = steps_run(steps, options.strength)
    passes = steps * (1 if options.guidance == 1 else 2)
    step = sum(_pass(dit, span.stop - span.start, options.height, options.width) for span in windows(latents))
    pixels = options.height * options.width
    return passes * step + pixels * (4 * latents - 3) * (DECODE + ENCODE[options.task])


def _pass(dit: DiTConfig, latents: int, height: int, width: int) -> float:
    """One pass of the transformer over one window: matrices, attention, attention to the prompt."""
    tokens = latents * (height // 16) * (width // 16)
    per_token = dit.layers * (6 * dit.dim**2 + 2 * dit.dim * dit.hidden)
    return tokens * per_token + 2.0 * dit.layers * dit.dim * tokens * (tokens + dit.text_len)


def _read(files: Files, role: str, parse: Callable[[Mapping[str, Stored]], T | None]) -> T | None:
    return parse(open_all(files[role])) if files.get(role) else None


def _text_parameters(text: umt5_names.TextCheckpoint[Stored] | None) -> int:
    return sum(stored.shape.numel() for stored in text.weights.values()) if text else UMT5_PARAMETERS


def _packed(weights: Mapping[str, int], unpacked: Mapping[str, int]) -> frozenset[str]:
    """Networks that take clearly less than they would in numbers."""
    return frozenset(name for name, size in unpacked.items() if weights[name] < 0.75 * size)


@cache
def _parameters(dit: DiTConfig) -> tuple[int, int]:
    """Of the network, and of one of its blocks."""
    with torch.device("meta"):
        net = WanDiT(dit)
    return sum(p.numel() for p in net.parameters()), sum(p.numel() for p in net.blocks[0].parameters())


@cache
def _autoencoder_bytes(vae: WanVAEConfig, dtype: torch.dtype) -> int:
    """In memory, once prepared, which takes more than its file."""
    with torch.device("meta"):
        net = WanVAE(vae).to(dtype).requires_grad_(False)
        net.prepare()
    return sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
