"""Rotary positions: each axis has its own share of a head and starts from frequency 1."""

import math

import pytest
import torch

from engine.models.wan.rope import axis_pairs, table, turned

CPU = torch.device("cpu")


@pytest.mark.parametrize(("head", "pairs"), [(128, (22, 21, 21)), (24, (4, 4, 4)), (40, (8, 6, 6)), (4, (2, 0, 0))])
def test_the_frame_has_what_the_row_and_the_column_leave(head: int, pairs: tuple[int, int, int]) -> None:
    assert axis_pairs(head) == pairs
    assert table(head, (2, 3, 4), CPU).shape == (24, head // 2)


def test_each_axis_turns_its_own_pairs_by_its_own_position() -> None:
    angles = table(128, (2, 3, 4), CPU).angle().view(2, 3, 4, 64)
    assert angles[1, 0, 0, [0, 22, 43]].tolist() == pytest.approx([1, 0, 0])
    assert angles[0, 2, 0, [0, 22, 43]].tolist() == pytest.approx([0, 2, 0])
    assert angles[0, 0, 3, [0, 22, 43]].tolist() == pytest.approx([0, 0, 3])
    assert angles[1, 0, 0, 21].item() == pytest.approx(10000 ** (-21 / 22))
    assert angles[0, 0, 1, 63].item() == pytest.approx(10000 ** (-20 / 21))


def test_far_positions_are_as_exact_as_float32_can_tell() -> None:
    last = table(128, (1, 1, 160), CPU)[-1, 43]
    assert last.real.item() == pytest.approx(math.cos(159), abs=6e-8)
    assert last.imag.item() == pytest.approx(math.sin(159), abs=6e-8)


def test_a_product_of_turned_vectors_knows_only_their_distance() -> None:
    q, k = torch.randn(2, 1, 1, 128, generator=torch.Generator().manual_seed(0))
    positions = table(128, (9, 9, 9), CPU).view(9, 9, 9, 64)

    def product(at: tuple[int, int, int], other: tuple[int, int, int]) -> float:
        turned_q, turned_k = turned(q.clone(), positions[at][None]), turned(k.clone(), positions[other][None])
        return float((turned_q * turned_k).sum())

    assert product((3, 1, 4), (1, 0, 2)) == pytest.approx(product((8, 7, 5), (6, 6, 3)), abs=1e-4)


def test_the_latest_table_is_kept() -> None:
    assert table(128, (2, 3, 4), CPU) is table(128, (2, 3, 4), CPU)
