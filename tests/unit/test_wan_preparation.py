"""What an image and a video become before Wan2.1's networks see them."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from engine.frames import RGB24, RGBA32, Frame, Raster
from engine.pipelines.wan.preparation import clip, condition, first_frame, picture

CPU = torch.device("cpu")


def still(height: int, width: int, values: int = 255, channels: int = 3) -> Frame:
    return Frame((np.full((height, width, channels), values, np.uint8),), Fraction(0))


@pytest.mark.parametrize("alpha", [0, 255])
def test_what_is_transparent_lies_on_black(alpha: int) -> None:
    frame = still(2, 3, channels=4)
    frame.planes[0][..., 3] = alpha
    image = picture(frame, Raster(3, 2, RGBA32), CPU)
    assert image.shape == (1, 3, 2, 3)
    assert image.unique().tolist() == [1.0 if alpha else -1.0]


@pytest.mark.parametrize("size", [(1, 1), (40, 90), (90, 40), (48, 96)])
@pytest.mark.parametrize("fit", ["keep", "crop", "pad"])
def test_an_image_of_any_shape_becomes_the_first_frame(size: tuple[int, int], fit) -> None:
    image = torch.zeros(1, 3, *size)
    frame = first_frame(image, 48, 96, fit)
    assert frame.shape == (1, 3, 48, 96)
    black = (frame == -1).all(dim=1).any()
    assert bool(black) == (fit == "pad" and size[1] != 2 * size[0])


def test_cropping_keeps_the_middle_and_padding_all() -> None:
    image = torch.zeros(1, 3, 32, 96)
    image[..., 32:64] = 1
    assert first_frame(image, 32, 32, "crop").mean() == pytest.approx(1, abs=0.1)
    padded = first_frame(image, 96, 96, "pad")
    assert padded[..., 32:64, :].mean() == pytest.approx(1 / 3, abs=0.02)
    assert (padded[..., :32, :] == -1).all()
    assert (padded[..., 64:, :] == -1).all()


def test_the_condition_says_that_the_first_latent_is_given() -> None:
    made = condition(torch.full((16, 3, 2, 2), 7.0))
    assert made.shape == (20, 3, 2, 2)
    assert made[:4, 0].unique().tolist() == [1.0]
    assert made[:4, 1:].unique().tolist() == [0.0]
    assert made[4:].unique().tolist() == [7.0]


@pytest.mark.parametrize(("frames", "made"), [(1, 1), (2, 5), (5, 5), (8, 9)])
def test_the_last_frame_is_repeated_until_the_clip_is_whole(frames: int, made: int) -> None:
    source = [still(4, 6, values=10 * n) for n in range(frames)]
    given = [*clip(source, Raster(6, 4, RGB24), 16, 32, "keep", CPU)]
    assert [tuple(x.shape) for x in given] == [(1, 3, 16, 32)] * made
    assert all(x.shape == (1, 3, 16, 32) for x in given)
    codes = [round((x.mean().item() + 1) / 2 * 255) for x in given]
    assert codes == [10 * min(n, frames - 1) for n in range(made)]
