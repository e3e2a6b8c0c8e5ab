"""The video autoencoder by tiles, beyond the goldens."""

import pytest
import torch
from torch import Tensor

from engine.models.seedvr2.tiles import decode_tiled, encode_tiled, ramps, tile_spans
from engine.models.seedvr2.vae import VideoVAE
from tests.parity.seedvr2_rule import weights_by_rule
from tests.unit.test_seedvr2_vae import SMALL, breaking_off_after, clip, latents, network


def test_the_last_tile_is_left_out_when_its_neighbour_has_all_of_it() -> None:
    rows = [span for span, _ in tile_spans((22, 4), (64, 64), (16, 16))]
    assert rows == [slice(0, 8), slice(6, 14), slice(12, 20), slice(18, 22)]
    assert [span for span, _ in tile_spans((20, 4), (64, 64), (16, 16))] == rows[:3]


def test_one_tile_is_no_tiling() -> None:
    vae = network()
    with torch.inference_mode():
        assert torch.equal(decode_tiled(vae, latents(2), (32, 24), (16, 16)), vae.decode(latents(2)))
        assert torch.equal(encode_tiled(vae, clip(5), (32, 24), (16, 16)), vae.encode(clip(5)))


def test_ramps_rise_and_fall_only_inside_the_picture() -> None:
    assert ramps(slice(0, 5), 12, 3) == pytest.approx([1, 1, 1, 0.5, 0])
    assert ramps(slice(4, 9), 12, 3) == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert ramps(slice(7, 12), 12, 3) == pytest.approx([0, 0.5, 1, 1, 1])


def test_a_tile_no_longer_than_its_overlap_keeps_a_pixel() -> None:
    assert ramps(slice(0, 3), 12, 5) == pytest.approx([1, 1, 0.853553])


def test_tiles_that_share_no_latent_leave_no_seam_empty() -> None:
    vae, z = network(), latents(1, 4, 4)
    with torch.inference_mode():
        assert torch.equal(decode_tiled(vae, z, (16, 16), (7, 1)), decode_tiled(vae, z, (16, 16), (0, 0)))


def test_breaking_off_between_tiles_goes_through() -> None:
    with torch.inference_mode(), pytest.raises(KeyboardInterrupt):
        decode_tiled(network(), latents(1, 4, 4), (16, 16), (8, 8), check=breaking_off_after(50))


def test_seams_stay_below_a_255th_where_tiles_overlap() -> None:
    """Tiles have their own statistics, here 7 shades off on average: 0.2 and 0.7 at seams, 13 without an overlap."""
    vae, z = calm_network(), waves(2, 8, 24)
    with torch.inference_mode():
        whole = vae.decode(z)
        shade = (whole.max() - whole.min()).item() / 255
        overlapping, touching = (decode_tiled(vae, z, (64, 128), (0, shared)) - whole for shared in (64, 0))
    assert max(step(overlapping, column) for column in (64, 128)) < shade
    assert step(touching, 128) > 10 * shade


def step(y: Tensor, column: int) -> float:
    """From the column before, on average."""
    return (y[..., column] - y[..., column - 1]).abs().mean().item()


def calm_network() -> VideoVAE:
    """Random weights without the noise they make of every picture: no residuals, no attention, and repeated pixels."""
    vae = VideoVAE(SMALL)
    weights = weights_by_rule({name: tensor.shape for name, tensor in vae.state_dict().items()})
    for name, weight in weights.items():
        if ".conv2." in name or ".to_out." in name:
            weight.zero_()
        elif name.endswith("upscale_conv.weight"):
            weight.copy_(torch.eye(weight.shape[1]).repeat(len(weight) // weight.shape[1], 1)[..., None, None, None])
        elif name.endswith("upsamplers.0.conv.weight"):
            weight.zero_()[:, :, -1, 1, 1] = torch.eye(len(weight))
        elif name == "decoder.conv_out.weight":
            weight.copy_(weight.mean((2, 3, 4), keepdim=True).expand_as(weight))
    vae.load_state_dict(weights)
    vae.prepare()
    return vae


def waves(count: int, height: int, width: int) -> Tensor:
    t, y, x, c = torch.meshgrid(*(torch.arange(n) for n in (count, height, width, 16)), indexing="ij")
    return torch.sin(x * (1 + c % 3) / 8 + y * (1 + c % 2) / 7 + t / 3 + c).permute(3, 0, 1, 2)[None]
