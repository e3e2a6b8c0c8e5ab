"""The networks of diffusers and transformers with the weights of ours, and the pipeline that its users call."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn

from builder.tiny.wan_names import diffusers_autoencoder, diffusers_transformer, transformers_text
from engine.models.wan.config import DiTConfig
from engine.models.wan.umt5 import BUCKETS, UMT5Config
from engine.models.wan.vae_config import MEAN, STD, WanVAEConfig
from engine.pipelines.wan.prompts import SENTINELS
from engine.pipelines.wan.schedules import schedule

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import T5Tokenizer, UMT5EncoderModel
    from transformers import UMT5Config as PeerTextConfig

Weights = Mapping[str, Tensor]


def empty_transformer(config: DiTConfig) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head,
        in_channels=config.inputs,
        out_channels=config.outputs,
        text_dim=config.text_dim,
        freq_dim=config.times,
        ffn_dim=config.hidden,
        num_layers=config.layers,
        image_dim=config.image_dim,
        added_kv_proj_dim=None if config.image_dim is None else config.dim,
    )


def transformer(config: DiTConfig, weights: Weights, dtype: torch.dtype, device: torch.device) -> WanTransformer3DModel:
    """In `dtype` but for what its own loading keeps in float32. `weights` by the original names."""
    with torch.device("meta"):
        net = empty_transformer(config)
    wide = set(WanTransformer3DModel._keep_in_fp32_modules)
    named = diffusers_transformer(weights)
    given = {
        name: tensor.to(device, torch.float32 if wide & set(name.split(".")) else dtype)
        for name, tensor in named.items()
        if "norm_added_q" not in name
    }
    net.load_state_dict(given, assign=True)
    rope = net.rope  # its tables are in no state dict
    net.rope = type(rope)(rope.attention_head_dim, rope.patch_size, rope.max_seq_len).to(device)
    return net.eval().requires_grad_(False)


def empty_autoencoder(config: WanVAEConfig) -> AutoencoderKLWan:
    return AutoencoderKLWan(base_dim=config.width)


def autoencoder(config: WanVAEConfig, weights: Weights, dtype: torch.dtype, device: torch.device) -> AutoencoderKLWan:
    with torch.device("meta"):
        net = empty_autoencoder(config)
    given = {name: tensor.to(device, dtype) for name, tensor in diffusers_autoencoder(weights).items()}
    net.load_state_dict(given, assign=True)
    return net.eval().requires_grad_(False)


def text_encoder(config: UMT5Config, weights: Weights, dtype: torch.dtype) -> UMT5EncoderModel:
    net = UMT5EncoderModel(
        PeerTextConfig(
            vocab_size=config.vocab,
            d_model=config.dim,
            d_kv=config.inner // config.heads,
            d_ff=config.hidden,
            num_layers=config.layers,
            num_heads=config.heads,
            relative_attention_num_buckets=BUCKETS,
        )
    )
    named = transformers_text(weights)
    net.load_state_dict({**named, "encoder.embed_tokens.weight": named["shared.weight"]})
    return net.to(dtype).eval().requires_grad_(False)


def tokenizer(model: bytes) -> T5Tokenizer:
    """Of a model of sentencepiece that knows all words it is given."""
    pieces = SentencePieceProcessor(model_proto=model)
    vocabulary = [(pieces.id_to_piece(n), pieces.get_score(n)) for n in range(pieces.get_piece_size())]
    vocabulary += [(f"<extra_id_{n}>", 0.0) for n in reversed(range(SENTINELS))]
    return T5Tokenizer(vocab=vocabulary, extra_ids=SENTINELS)


class PublishedLevels(UniPCMultistepScheduler):
    """Through the noise levels of Wan2.1's own code, and so of ours; diffusers' differ a little, and cost the same."""

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **kwargs: Any) -> None:
        super().set_timesteps(num_inference_steps, device, **kwargs)
        levels = schedule("unipc", num_inference_steps, self.config.flow_shift)
        self.sigmas = torch.tensor(levels.sigmas)
        self.timesteps = torch.tensor(levels.timesteps, dtype=torch.int64, device=device)


def pipeline(shift: float, **parts: Any) -> WanPipeline:
    """Of a tokenizer, a text_encoder, a transformer and a vae."""
    scheduler = PublishedLevels(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )
    pipe = WanPipeline(scheduler=scheduler, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encode(net: AutoencoderKLWan, frames: Tensor) -> Tensor:
    """(1, 3, F, H, W) -> normalised latents"""
    latents = net.encode(frames.to(net.dtype)).latent_dist.mode()
    mean, std = _spread(latents)
    return (latents - mean) / std


def decode(net: AutoencoderKLWan, z: Tensor) -> Tensor:
    """Normalised latents (1, 16, t, h, w) -> frames in [-1, 1]"""
    mean, std = _spread(z)
    return net.decode((z * std + mean).to(net.dtype)).sample


def velocity(net: nn.Module, x: Tensor, timestep: float, rows: Tensor, image: Tensor | None = None) -> Tensor:
    """x (1, C, T, h, w), a prompt's padded rows (1, 512, text_dim) -> (1, 16, T, h, w)"""
    t = torch.full((1,), timestep, dtype=torch.int64, device=x.device)
    out: Tensor = net(x, t, rows, image, return_dict=False)[0]
    return out


def padded(rows: Tensor, length: int) -> Tensor:
    """(N, D) -> (1, length, D)"""
    return nn.functional.pad(rows, (0, 0, 0, length - len(rows)))[None]


def _spread(like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (like.new_tensor(told)[:, None, None, None] for told in (MEAN, STD))
    return mean, std
