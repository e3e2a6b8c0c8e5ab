"""SeedVR2's arithmetic around the network: noise, condition, timesteps; how clips are made up and joined."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from engine.pipelines.seedvr2.preparation import add_noise, blend_weights, clip_indices, mirrored_tail, prepare
from engine.pipelines.seedvr2.sampling import condition, condition_noise, denoise, draw_noise, shifted_timestep

GOLDENS = Path(__file__).parent.parent / "data" / "goldens" / "seedvr2"
CPU = torch.device("cpu")


@pytest.mark.parametrize("path", sorted(GOLDENS.glob("pipe*.safetensors")), ids=lambda path: path.stem)
def test_noise_of_seed_42_is_the_published_one_to_the_bit(path: Path) -> None:
    wanted = {name: tensor for name, tensor in load_file(path).items() if name.startswith("noise")}
    assert wanted
    for tensor in wanted.values():
        assert torch.equal(draw_noise(tensor.shape, 42, CPU)[0], tensor)


def test_noise_depends_on_seed_and_shape_alone() -> None:
    first, second = draw_noise((2, 6, 8, 16), 7, CPU)
    again, second_again = draw_noise((2, 6, 8, 16), 7, CPU)
    torch.manual_seed(0)
    assert torch.equal(first, again)
    assert torch.equal(second, second_again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw_noise((2, 6, 8, 16), 8, CPU)[0])
    assert abs(first.mean()) < 0.1
    assert abs(first.std() - 1) < 0.1


def test_the_largest_seed_is_a_seed() -> None:
    assert draw_noise((1, 2, 2, 16), 2**64 - 1, CPU)[0].isfinite().all()


def test_the_condition_holds_noise_latent_and_ones() -> None:
    noise, latent = torch.randn(1, 2, 2, 16), torch.randn(3, 1, 2, 2, 16)
    x = condition(latent, noise)
    assert x.shape == (3, 1, 2, 2, 33)
    assert torch.equal(x[2, ..., :16], noise)
    assert torch.equal(x[..., 16:32], latent)
    assert bool((x[..., 32] == 1).all())


def test_the_step_undoes_the_velocity() -> None:
    noise, latent = torch.randn(1, 2, 2, 16), torch.randn(1, 1, 2, 2, 16)
    assert (denoise(noise, noise - latent) - latent).abs().max() < 1e-6


def test_no_condition_noise_is_the_latent_itself_and_all_of_it_only_noise() -> None:
    noise, second = draw_noise((1, 4, 4, 16), 1, CPU)
    latent = torch.randn(2, 1, 4, 4, 16)
    assert condition_noise(latent, 0, noise, second) is latent
    assert (condition_noise(latent, 1, noise, second) - (0.1 * noise + 0.05 * second)).abs().max() < 1e-6


def test_condition_noise_is_shifted_for_height_width_and_channels() -> None:
    noise, second = draw_noise((2, 4, 6, 16), 1, CPU)
    latent = torch.zeros(1, 2, 4, 6, 16)
    share = shifted_timestep(250, 4, 6, 16) / 1000
    wanted = share * (0.1 * noise + 0.05 * second)
    assert (condition_noise(latent, 0.25, noise, second)[0] - wanted).abs().max() < 1e-7


@given(st.integers(1, 41), st.integers(1, 300), st.integers(1, 300))
def test_shifted_timesteps_keep_their_ends_and_their_order(frames: int, height: int, width: int) -> None:
    times = [shifted_timestep(t, frames, height, width) for t in (0, 100, 500, 900, 1000)]
    assert times[0] == 0
    assert times[-1] == pytest.approx(1000)
    assert times == sorted(times)


@given(st.integers(1, 60), st.integers(0, 60))
def test_a_clip_begins_with_all_frames_and_has_four_n_and_one(n: int, least: int) -> None:
    indices = clip_indices(n, least)
    assert indices[:n] == list(range(n))
    assert set(indices) == set(range(n))
    assert len(indices) % 4 == 1
    assert max(n, least) <= len(indices) < max(n, least) + 4


def test_a_clip_leads_back_from_its_last_frame() -> None:
    assert clip_indices(6) == [0, 1, 2, 3, 4, 5, 4, 3, 2]
    assert clip_indices(6, least=13) == mirrored_tail(6, 13) == [0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1, 5, 5]
    assert clip_indices(4, least=6) == [0, 1, 2, 3, 2, 1, 2, 3, 2]


@given(st.integers(0, 40))
def test_the_earlier_clip_fades_into_the_later_one(overlap: int) -> None:
    weights = blend_weights(overlap)
    assert len(weights) == overlap
    assert bool((weights.diff() <= 0).all())
    if overlap > 1:
        assert (weights + weights.flip(0) - 1).abs().max() < 1e-6


def test_prepared_frames_are_black_where_they_were_too_small() -> None:
    x = prepare(torch.ones(2, 3, 9, 20), 18, 40)
    assert x.shape == (2, 3, 32, 48)
    assert (x[..., :18, :40] - 1).abs().max() < 1e-6
    assert bool((x[..., 18:, :] == -1).all())
    assert bool((x[..., 40:] == -1).all())


def test_what_the_resize_overshoots_is_cut() -> None:
    x = prepare((torch.arange(32) // 16 % 2).float().expand(1, 3, 32, 32), 64, 64)
    assert x.min() == -1
    assert x.max() == 1


def test_input_noise_is_a_fortieth_of_its_scale() -> None:
    x = torch.zeros(1, 3, 64, 64)
    assert add_noise(x, 0, 1) is x
    noisy = add_noise(x, 1, 1)
    assert torch.equal(noisy, add_noise(x, 1, 1))
    assert abs(noisy.std() / 0.025 - 1) < 0.05
