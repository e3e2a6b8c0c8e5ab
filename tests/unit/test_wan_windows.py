"""Videos longer than 81 frames: windows that cover them and agree."""

from itertools import pairwise

import pytest
import torch

from engine.pipelines.wan.sampling import Denoiser
from engine.pipelines.wan.windows import LONGEST, OVERLAP, ramps, windows


@pytest.mark.parametrize("latents", [1, 21, 22, 37, 38, 64, 251])
def test_windows_cover_everything_and_share_enough(latents: int) -> None:
    spans = windows(latents)
    assert spans[0].start == 0
    assert spans[-1].stop == latents
    assert {span.stop - span.start for span in spans} == {min(latents, LONGEST)}
    assert all(a.stop - b.start >= OVERLAP for a, b in pairwise(spans))


@pytest.mark.parametrize("latents", [1, 22, 38, 251])
def test_shares_sum_to_one_and_are_all_positive(latents: int) -> None:
    spans, total = windows(latents), torch.zeros(latents)
    for span, share in zip(spans, ramps(spans), strict=True):
        assert share.min() > 0
        total[span] += share
    torch.testing.assert_close(total, torch.ones(latents))


def test_a_window_fades_where_another_goes_on() -> None:
    first, second = ramps(windows(37))
    torch.testing.assert_close(first[-OVERLAP:], torch.arange(OVERLAP, 0, -1) / (OVERLAP + 1))
    torch.testing.assert_close(second[:OVERLAP], torch.arange(1, OVERLAP + 1) / (OVERLAP + 1))


def test_windows_of_a_network_that_sees_one_latent_at_a_time_change_nothing() -> None:
    x = torch.randn(16, 50, 2, 2, generator=torch.Generator().manual_seed(1))

    def net(x, timestep, contexts, check):
        return torch.stack([torch.sin(part) * context for part, context in zip(x, contexts, strict=True)])

    denoiser = Denoiser(net, [2.0, 1.0], 5.0, None, torch.float32)
    for batched in (True, False):
        v = denoiser.velocity(x, 500.0, batched=batched, check=lambda: None)
        torch.testing.assert_close(v, 6 * torch.sin(x), atol=1e-5, rtol=1e-5)
