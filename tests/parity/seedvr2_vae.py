"""Goldens of SeedVR2's video autoencoder: clips and latents, whole and in tiles, with weights made by the rule."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.models.seedvr2.tiles import decode_tiled, encode_tiled
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAE, VAEConfig
from engine.models.seedvr2.vae_names import recognise, rename
from engine.weights.load import load_weights
from tests.parity.rows import Row, compare_max, exact, kind
from tests.parity.seedvr2_rule import check_weights, weights_by_rule

ENCODED, DECODED = 1e-4, 2e-4  # max errors; the reference differs from itself by 3e-6 when its memory limit is on


def vae_by_rule(told: Mapping[str, Any]) -> tuple[VideoVAE, dict[str, Tensor]]:
    """The network of a sidecar's `config`, prepared, and the published weights it was given."""
    config = VAEConfig(tuple(told["block_out_channels"]), told["norm_num_groups"], told["latent_channels"])
    with torch.device("meta"):
        vae = VideoVAE(config)
    weights = weights_by_rule({name: tensor.shape for name, tensor in vae.state_dict().items()})
    load_weights(vae, weights, "weights by rule")
    with torch.inference_mode():
        vae.prepare()
    return vae, weights


@kind("vae_T")
def whole(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    vae, weights = vae_by_rule(sidecar["config"])
    yield check_weights(name, weights, sidecar["weights_check"])
    for slice_latents in (0, 1):
        label = f"{name} slices of {slice_latents}" if slice_latents else name
        with torch.inference_mode():
            yield compare_max(f"{label} enc", vae.posterior(tensors["x"], slice_latents), tensors["enc_out"], ENCODED)
            yield compare_max(f"{label} dec", vae.decode(tensors["z"], slice_latents), tensors["dec_out"], DECODED)


@kind("vae_tiled_T")
def tiled(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The reference squeezes the time of a single frame; of its 32 encoded channels the mean is compared."""
    vae, weights = vae_by_rule(sidecar["config"])
    yield check_weights(name, weights, sidecar["weights_check"])
    tile, overlap = tuple(sidecar["tile_size"]), tuple(sidecar["tile_overlap"])
    with torch.inference_mode():
        x, z = (tensors[key] if tensors[key].ndim == 5 else tensors[key][:, :, None] for key in ("x", "z"))
        mean = tensors["enc_out"][:, : vae.config.latent]
        encoded, decoded = encode_tiled(vae, x, tile, overlap), decode_tiled(vae, z, tile, overlap)
    yield compare_max(f"{name} enc", encoded.reshape(mean.shape), mean, ENCODED)
    yield compare_max(f"{name} dec", decoded.reshape(tensors["dec_out"].shape), tensors["dec_out"], DECODED)


def published(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every name and shape of the published file, the sidecar, at full size. Its kind is told in `wan_vae`."""
    handles = {key: torch.empty(shape, device="meta") for key, shape in sidecar.items()}
    yield exact(f"{name} is recognised", recognise(rename(handles)) == VAE)
    with torch.device("meta"):
        wanted = {key: weight.shape for key, weight in VideoVAE(VAE).state_dict().items()}
    yield exact(f"{name} names and shapes", {key: handle.shape for key, handle in handles.items()} == wanted)
