"""Alpha of enlarged pictures. The published outputs are checked by the goldens."""

import pytest
import torch

from engine.pipelines.alpha import enlarge_alpha


def colours(frames: int = 2, height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_opaque_stays_opaque_and_all_clear_clear(value: float) -> None:
    """Inside. At the edge the filters see zeros beyond it, as published."""
    got = enlarge_alpha(torch.full((2, 1, 20, 28), value), colours())
    assert got.shape == (2, 1, 40, 56)
    assert (got[..., 4:-4, 4:-4] - value).abs().max() < 0.05


def test_a_mask_stays_a_mask_and_soft_alpha_soft() -> None:
    flat = torch.zeros(1, 3, 40, 56)
    ramp = torch.linspace(0, 1, 28).expand(1, 1, 20, 28)
    mask = (ramp > 0.5).float()
    assert set(enlarge_alpha(mask, flat).unique().tolist()) <= {0.0, 1.0}
    soft = enlarge_alpha(ramp, flat)
    assert ((soft > 0.2) & (soft < 0.8)).float().mean() > 0.4


def test_alpha_lies_in_its_range_for_colours_beyond_theirs() -> None:
    alpha = torch.rand(2, 1, 20, 28, generator=torch.Generator().manual_seed(1))
    for opacity in (alpha, alpha.round()):
        got = enlarge_alpha(opacity.bfloat16(), (3 * colours()).bfloat16())
        assert got.dtype == torch.float32
        assert got.min() >= 0
        assert got.max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 30), (30, 1)])
def test_the_thinnest_pictures_have_alpha_too(height: int, width: int) -> None:
    got = enlarge_alpha(torch.ones(1, 1, height, width), colours(1, height, width))
    assert bool(got.isfinite().all())
