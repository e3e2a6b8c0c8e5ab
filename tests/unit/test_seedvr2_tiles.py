"""The video autoencoder by tiles, beyond the goldens."""

import pytest
import torch

from engine.models.seedvr2.tiles import decode_tiled, encode_tiled, ramps, tile_spans
from tests.unit.test_seedvr2_vae import breaking_off_after, clip, latents, network


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


def test_breaking_off_between_tiles_goes_through() -> None:
    with torch.inference_mode(), pytest.raises(KeyboardInterrupt):
        decode_tiled(network(), latents(1, 4, 4), (16, 16), (8, 8), check=breaking_off_after(50))
