"""Goldens of Wan2.1's video autoencoder: frames and latents, whole and in tiles, with weights made by the rule."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.handles import Checkpoint
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import VAE, WanVAEConfig
from engine.models.wan.vae_names import diffusers_name, parse
from engine.models.wan.vae_tiles import decode_tiled, encode_tiled
from engine.weights.load import load_weights
from tests.parity import seedvr2_vae
from tests.parity.rows import Row, compare_max, exact, kind

LIMIT = 5e-5  # max errors


def wan_vae_by_rule(config: WanVAEConfig, dtype: torch.dtype = torch.float32) -> WanVAE:
    """Prepared."""
    with torch.device("meta"):
        vae = WanVAE(config)
    load_weights(vae, {name: tensor_by_rule(name, tuple(t.shape)) for name, t in vae.state_dict().items()}, "by rule")
    vae.to(dtype).requires_grad_(False).prepare()
    return vae


@kind("vae_a_decode")
def decoded(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    vae = wan_vae_by_rule(WanVAEConfig(sidecar["config"]["dim"]))
    for key in (key for key in tensors if key.startswith("dec_z")):
        with torch.inference_mode():
            frames = torch.stack([*vae.unclamped(tensors[key])], 2)
        yield compare_max(f"{name} {key}", frames, tensors[key.replace("z", "raw")], LIMIT)


@kind("vae_a_encode")
def encoded(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    vae = wan_vae_by_rule(WanVAEConfig(sidecar["config"]["dim"]))
    for key in (key for key in tensors if key.startswith("enc_in")):
        with torch.inference_mode():
            latents = vae.encode(tensors[key].unbind(2))
        yield compare_max(f"{name} {key}", latents, tensors[key.replace("in", "mu")], LIMIT)


@kind("vae_tiled_a")
def tiled(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    vae = wan_vae_by_rule(WanVAEConfig(sidecar["config"]["dim"]))
    sizes = sidecar["tile_px"], sidecar["stride_px"]
    with torch.inference_mode():
        if "dec_z" in tensors:
            frames = torch.cat([*decode_tiled(vae, tensors["dec_z"], *sizes)], 2)
            yield compare_max(f"{name} dec", frames, tensors["dec_out_clamped"], LIMIT)
        if "enc_in" in tensors:
            latents = encode_tiled(vae, tensors["enc_in"].unbind(2), *sizes)
            yield compare_max(f"{name} enc", latents, tensors["enc_mu"], LIMIT)


@kind("keymap_vae")
def names(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    yield exact(f"{name} diffusers", all(diffusers_name(ours) == theirs for ours, theirs in sidecar.items()))


@kind("vae")
def published(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every name and shape of a published file, the sidecar, at full size: SeedVR2's or this one's."""
    if "encoder.conv1.weight" not in sidecar:
        yield from seedvr2_vae.published(name, tensors, sidecar)
        return
    handles = {key: torch.empty(shape, device="meta") for key, shape in sidecar.items()}
    with torch.device("meta"):
        wanted = {key: weight.shape for key, weight in WanVAE(VAE).state_dict().items()}
    yield exact(f"{name} names and shapes", {key: handle.shape for key, handle in handles.items()} == wanted)
    for layout in (handles, {diffusers_name(key): handle for key, handle in handles.items()}):
        yield exact(f"{name} is recognised", parse(layout) == Checkpoint(VAE, handles))
