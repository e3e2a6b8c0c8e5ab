"""Rotary positions: relative to the window and to its real size."""

import math

import pytest
import torch

from engine.models.seedvr2.rope import rotate_, text_angles, text_table, video_angles, video_table

CPU = torch.device("cpu")


def test_the_prompt_comes_first_on_the_3bs_axis_of_time() -> None:
    angles = video_angles("3b", (2, 1, 1), text=7)
    assert angles[:, 0].tolist() == [7, 8]
    assert angles[:, 21:].abs().max() == 0
    assert text_angles(7)[:, [0, 21, 42]].tolist() == [[n, n, n] for n in range(7)]


def test_the_7bs_positions_span_a_clipped_window_as_they_do_a_whole_one() -> None:
    for size in (2, 5, 27):
        angles = video_angles("7b", (1, 1, size), text=7)[:, 20]
        assert angles[0] == pytest.approx(-math.pi)
        assert angles[-1] == pytest.approx(math.pi)
    assert video_angles("7b", (1, 1, 1), text=7)[0, 29] == pytest.approx(-128 * math.pi)
    assert text_table("7b", 7, CPU) is None


@pytest.mark.parametrize(("kind", "turned"), [("3b", 126), ("7b", 60)])
def test_only_the_first_values_of_a_head_turn_and_none_grows(kind: str, turned: int) -> None:
    x = torch.randn(2, 6, 2, 3, 128, generator=torch.Generator().manual_seed(0))
    y = rotate_(x.clone(), video_table(kind, (1, 2, 3), 5, CPU))  # type: ignore[arg-type]
    assert torch.equal(x[..., turned:], y[..., turned:])
    assert (x[..., :turned] - y[..., :turned]).abs().min(0).values.max() > 0
    torch.testing.assert_close(x.unflatten(-1, (64, 2)).norm(dim=-1), y.unflatten(-1, (64, 2)).norm(dim=-1))


def test_a_product_of_turned_vectors_knows_only_their_distance() -> None:
    q, k = torch.randn(2, 1, 1, 1, 128, generator=torch.Generator().manual_seed(0))
    products = [
        (
            rotate_(q.clone(), text_table("3b", 9, CPU)[n, None])
            * rotate_(k.clone(), text_table("3b", 9, CPU)[m, None])
        ).sum()  # type: ignore[index]
        for n, m in ((3, 1), (8, 6))
    ]
    assert products[0].item() == pytest.approx(products[1].item(), abs=1e-4)
