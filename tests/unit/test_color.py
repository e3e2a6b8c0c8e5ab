"""Colour corrections: what they keep, what they take from the style, and how much memory they need."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.pipelines.color import METHODS, Method, correct
from engine.pipelines.color.memory import color_bytes, tensor_bytes
from engine.pipelines.color.ranks import ascending, match
from engine.pipelines.color.wavelet import low_pass_
from tests.live_bytes import LiveBytes

CORRECTIONS: list[Method] = [method for method in METHODS if method != "none"]


def picture(frames: int = 2, height: int = 40, width: int = 56, seed: int = 0) -> Tensor:
    """Smooth colours with some noise, (T, 3, H, W) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(frames, 3, height, width, generator=generator)
    for frame in x:
        low_pass_(frame)
    return (4 * x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(-0.95, 0.95)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_in_its_own_style_stays_as_it_is(method: Method) -> None:
    x = picture()
    error = (correct(x, x.clone(), method) - x).abs().max()
    assert error < {"lab": 1e-4, "hsv": 3e-6}.get(method, 1e-6)  # there and back in other units: 116 L, 6 sectors


@pytest.mark.parametrize("method", METHODS)
def test_corrections_read_any_float_type_and_change_neither_picture(method: Method) -> None:
    content, style = picture().bfloat16(), picture(seed=1).bfloat16()
    copies = content.clone(), style.clone()
    got = correct(content, style, method)
    assert got.dtype == torch.float32
    assert torch.equal(got, correct(content.float(), style.float(), method))
    assert torch.equal(content, copies[0])
    assert torch.equal(style, copies[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (2, 150), (9, 40)])
def test_the_thinnest_pictures_have_colours_too(method: Method, height: int, width: int) -> None:
    got = correct(picture(1, height, width), picture(1, height, width, seed=1), method)
    assert got.shape == (1, 3, height, width)
    assert bool(got.isfinite().all())


@pytest.mark.parametrize("method", CORRECTIONS)
def test_flat_and_grey_pictures_have_no_statistics_and_no_harm_comes_of_it(method: Method) -> None:
    grey = torch.linspace(-1, 1, 40 * 56).view(1, 1, 40, 56).expand(1, 3, -1, -1)
    for content, style in [(grey, picture(1)), (picture(1), grey), (torch.zeros_like(grey), torch.ones_like(grey))]:
        assert bool(correct(content, style, method).isfinite().all())


def test_hsv_leaves_grey_grey() -> None:
    grey = torch.linspace(-1, 1, 40 * 56).view(1, 1, 40, 56).expand(1, 3, -1, -1)
    assert (correct(grey, grey * 0.5, "hsv") - grey).abs().max() < 1e-6


def test_adain_gives_mean_and_deviation() -> None:
    content, style = picture(), picture(seed=1) * 0.5 + 0.1
    got = correct(content, style, "adain")
    assert (got.mean((2, 3)) - style.mean((2, 3))).abs().max() < 1e-6
    assert (got.std((2, 3)) - style.std((2, 3))).abs().max() < 1e-4  # the 1e-5 under the root


def test_wavelet_takes_low_frequencies_and_leaves_detail() -> None:
    content, style = picture() * 0.5, picture(seed=1) * 0.5
    got = correct(content, style, "wavelet")
    low_got, low_style, low_content = got.clone(), style.clone(), content.clone()
    for frames in (low_got, low_style, low_content):
        for frame in frames:
            low_pass_(frame)
    assert (got - content - (low_style - low_content)).abs().max() < 1e-6


@pytest.mark.parametrize("size", [(1, 7), (16, 16), (130, 300)])
def test_blurring_in_bands_is_the_nine_tap_pyramid(size: tuple[int, int]) -> None:
    x = torch.rand(3, *size)
    wanted = x.double()
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    for r in (1, 2, 4, 8, 16):
        r = min(r, max(min(size) // 8, 1))
        padded = torch.nn.functional.pad(wanted[None], (r, r, r, r), mode="replicate")
        wanted = torch.nn.functional.conv2d(padded, kernel, dilation=r, groups=3)[0]
    low_pass_(x)
    assert (x - wanted).abs().max() < 1e-6


numbers = st.floats(-2.0, 2.0, width=32)
values = st.lists(numbers, min_size=1, max_size=200)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=200))
@settings(max_examples=50)
def test_matching_as_many_values_gives_exactly_the_styles(pairs: list[tuple[float, float]]) -> None:
    content, style = torch.tensor(pairs).unbind(1)
    got = match(content.clone(), ascending(style.clone()))
    assert torch.equal(got.sort().values, style.sort().values)
    assert bool((got[content.argsort(stable=True)].diff() >= 0).all())


@given(values, values)
@settings(max_examples=50)
def test_matching_keeps_ranks_and_uses_only_the_styles_values(content: list[float], style: list[float]) -> None:
    got = match(torch.tensor(content), ascending(torch.tensor(style)))
    assert bool((got[torch.tensor(content).argsort(stable=True)].diff() >= 0).all())
    assert set(got.tolist()) <= set(torch.tensor(style).tolist())


def test_equal_values_keep_their_order() -> None:
    got = match(torch.zeros(100_000), ascending(torch.rand(100_000)))
    assert bool((got.diff() >= 0).all())


def test_more_values_than_float32_can_count_have_a_largest() -> None:
    style = torch.arange(2**24 + 4, dtype=torch.int32)
    assert match(torch.tensor([1.0, 0.0]), style).view(torch.int32).tolist() == [2**24 + 3, 0]


def test_lab_takes_the_styles_chroma_over_the_whole_slice() -> None:
    """Two frames whose colours changed places: as one population nothing is left to match."""
    x = picture()
    both = correct(x, x.flip(0), "lab")
    alone = torch.cat([correct(x[t : t + 1], x[1 - t : 2 - t], "lab") for t in range(2)])
    assert (both - alone).abs().max() > 0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frames", [1, 5])
def test_memory_is_what_was_said(method: Method, frames: int) -> None:
    content = torch.rand(frames, 3, 256, 320) * 0.5
    content[:, 0] += 0.5  # one hue, the most that hsv can take
    style = content.bfloat16()
    style[:, 2, 0] = 0.9  # but not as many pixels of it
    with LiveBytes() as live:
        correct(content, style, method)
    assert live.peak <= tensor_bytes(method, frames, 256, 320, on_cpu=True) <= 1.25 * live.peak


def test_a_plan_counts_what_sorting_takes_too() -> None:
    assert color_bytes("wavelet", 5, 1080, 1920) == tensor_bytes("wavelet", 5, 1080, 1920)
    assert color_bytes("lab", 5, 1080, 1920) == tensor_bytes("lab", 5, 1080, 1920) + 20 * 5 * 1080 * 1920


def test_pictures_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        correct(picture(height=40), picture(height=42), "lab")
