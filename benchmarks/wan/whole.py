"""A whole run, from a prompt's text to frames: our pipeline and diffusers', as their callers call them."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.turns import Work
from benchmarks.wan import peers
from benchmarks.wan.cases import GUIDANCE, Case, Sizes, decode_operations, dit_operations, named
from benchmarks.wan.networks import CPU, dit_weights, networks, text_weights, vae_weights
from builder.tiny import wan_networks as tiny
from engine.frames import RGB24, Raster
from engine.models.wan.vae_config import SPATIAL, TEMPORAL
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.options import WanOptions
from engine.pipelines.wan.pipeline import Wan
from engine.pipelines.wan.prompts import Tokenizer

SHIFT, SEED = 3.0, 7
WORDS = "a cat runs over green hills and sees the sun shining on quiet water while birds fly home in the evening light"
FREE = 2**34


def run(sizes: Sizes, dtypes: Sequence[torch.dtype]) -> Case:
    """Each with text encoders, guidance, UniPC through the same noise levels, and decoding. Nothing is remembered."""
    model = tiny.tokenizer()
    options = _options(sizes, [_text(Tokenizer(model), length) for length in sizes.lengths])
    work: dict[str, Work] = {}
    for dtype in dtypes:
        work[f"theirs {named(dtype)}"] = partial(_theirs, _their_pipeline(sizes, model, dtype), options)
        nets = networks(sizes.dit, sizes.vae, sizes.text, dtype)
        work[f"ours {named(dtype)}"] = partial(_ours, nets, Tokenizer(model), options)
    operations = 2 * sizes.steps * dit_operations(sizes) + decode_operations(sizes, sizes.latent)
    title = f"run, {sizes.steps} steps, {options.width}x{options.height}, {options.frames} frames"
    return Case(title, work, operations, partial(_off, [named(dtype) for dtype in dtypes]))


def _options(sizes: Sizes, prompts: Sequence[str]) -> WanOptions:
    latents, rows, columns = sizes.latent
    return WanOptions(
        task="t2v",
        prompt=prompts[0],
        negative=prompts[1],
        frames=TEMPORAL * (latents - 1) + 1,
        width=SPATIAL * columns,
        height=SPATIAL * rows,
        steps=sizes.steps,
        guidance=GUIDANCE,
        shift=SHIFT,
        solver="unipc",
        seed=SEED,
        free_bytes=FREE,
    )


def _ours(nets: Networks, tokenizer: Tokenizer, options: WanOptions) -> Tensor:
    """Frames (F, H, W, 3) in [0, 1], by a pipeline that has not been called before."""
    wan = Wan(nets, tokenizer, "random", negative="", build=lambda loras: lambda device: nets.dit)
    frames = wan(None, Raster(options.width, options.height, RGB24), options)
    return torch.from_numpy(np.stack([frame.planes[0] for frame in frames])).float().div_(255)


def _their_pipeline(sizes: Sizes, model: bytes, dtype: torch.dtype) -> peers.WanPipeline:
    return peers.pipeline(
        SHIFT,
        tokenizer=peers.tokenizer(model),
        text_encoder=peers.text_encoder(sizes.text, text_weights(sizes.text), dtype),
        transformer=peers.transformer(sizes.dit, dit_weights(sizes.dit), dtype, CPU),
        vae=peers.autoencoder(sizes.vae, vae_weights(sizes.vae), dtype, CPU),
    )


def _theirs(pipe: peers.WanPipeline, options: WanOptions) -> Tensor:
    """Frames (F, H, W, 3) in [0, 1]"""
    made = pipe(
        prompt=options.prompt,
        negative_prompt=options.negative,
        height=options.height,
        width=options.width,
        num_frames=options.frames,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        generator=torch.Generator().manual_seed(options.seed),
    )
    return torch.from_numpy(made.frames[0])


def _off(dtypes: Sequence[str], made: Mapping[str, Tensor]) -> str:
    """How far ours is from theirs, in 255ths: ours are dithered by less than half of one, and rounded."""
    off = [255 * float((made[f"ours {dtype}"] - made[f"theirs {dtype}"]).abs().max()) for dtype in dtypes]
    return ", ".join(f"{dtype}: at most {codes:.1f} codes apart" for dtype, codes in zip(dtypes, off, strict=True))


def _text(tokenizer: Tokenizer, length: int) -> str:
    """A prompt of at most so many tokens, and hardly less."""
    words = (WORDS.split() * length)[:length]
    while len(tokenizer(" ".join(words)).ids) > length:
        words.pop()
    return " ".join(words)
