"""Wan2.1's video autoencoder against diffusers' with the same weights."""

import warnings

import pytest
import torch
from torch import Tensor

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import MEAN, STD, WanVAEConfig
from engine.models.wan.vae_names import diffusers_name
from engine.models.wan.vae_tiles import decode_tiled, encode_still_tiled, encode_tiled
from tests.parity.wan_vae import wan_vae_by_rule
from tests.unit.test_wan_vae import breaking_off_after, clip, latents

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers import AutoencoderKLWan

LIMIT = 5e-5


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


def pair(width: int) -> tuple[WanVAE, AutoencoderKLWan]:
    with torch.device("meta"):
        names = {name: tuple(t.shape) for name, t in WanVAE(WanVAEConfig(width)).state_dict().items()}
    theirs = AutoencoderKLWan(base_dim=width)
    theirs.load_state_dict({diffusers_name(name): tensor_by_rule(name, shape) for name, shape in names.items()})
    return wan_vae_by_rule(WanVAEConfig(width)), theirs.eval()


def scaled(z: Tensor) -> Tensor:
    mean, std = (torch.tensor(told)[:, None, None, None] for told in (MEAN, STD))
    return z * std + mean


def off(got: Tensor, wanted: Tensor) -> float:
    return (got - wanted).abs().max().item()


@pytest.mark.parametrize(
    ("width", "count", "height", "width_latents", "batch"),
    [(4, 1, 2, 5, 1), (8, 2, 3, 3, 2), (12, 4, 5, 2, 1), (24, 3, 1, 1, 1), (6, 6, 2, 3, 1)],
)
def test_both_ways_are_those_of_diffusers(width: int, count: int, height: int, width_latents: int, batch: int) -> None:
    ours, theirs = pair(width)
    z = latents(count, height, width_latents, batch)
    assert off(torch.cat([*ours.decode(z)], 2), theirs.decode(scaled(z)).sample) < LIMIT
    x = clip(4 * count - 3, 8 * height, 8 * width_latents, batch)
    assert off(scaled(ours.encode(x)), theirs.encode(torch.stack(x, 2)).latent_dist.mode()) < LIMIT


@pytest.mark.parametrize(("height", "width"), [(5, 9), (4, 13), (8, 3), (7, 8)])
@pytest.mark.parametrize(("tile", "stride"), [(32, 24), (40, 16), (32, 32)])
def test_tiles_are_blended_as_diffusers_does_it(height: int, width: int, tile: int, stride: int) -> None:
    ours, theirs = pair(4)
    theirs.enable_tiling(tile, tile, stride, stride)
    z, x = latents(2, height, width), clip(5, 8 * height, 8 * width)
    assert off(torch.cat([*decode_tiled(ours, z, tile, stride)], 2), theirs.decode(scaled(z)).sample) < LIMIT
    wanted = theirs.encode(torch.stack(x, 2)).latent_dist.mode()
    assert off(scaled(encode_tiled(ours, x, tile, stride)), wanted) < LIMIT


def test_a_still_clip_by_tiles_has_the_bits_of_any_other() -> None:
    ours, _ = pair(4)
    (picture,) = clip(1, 40, 48)
    plain = encode_tiled(ours, [picture, *(torch.zeros_like(picture) for _ in range(8))], 32, 24)
    assert torch.equal(encode_still_tiled(ours, picture, 9, 32, 24), plain)


def test_one_tile_is_no_tiling() -> None:
    ours, _ = pair(4)
    z, x = latents(2, 3, 3), clip(5, 24, 24)
    assert torch.equal(torch.cat([*decode_tiled(ours, z, 32, 24)], 2), torch.cat([*ours.decode(z)], 2))
    assert torch.equal(encode_tiled(ours, x, 32, 24), ours.encode(x))


def test_breaking_off_between_tiles_goes_through() -> None:
    ours, _ = pair(4)
    with pytest.raises(KeyboardInterrupt):
        next(decode_tiled(ours, latents(1, 4, 8), 32, 24, breaking_off_after(50)))
    with pytest.raises(KeyboardInterrupt):
        encode_tiled(ours, clip(1, 32, 64), 32, 24, breaking_off_after(30))


def test_tiles_of_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        encode_tiled(pair(4)[0], [], 32, 24)
