"""The weights in the repository: small, recognised, better than bicubic, and harmless to the eye."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from builder.bundled import DEFAULT_FILE
from builder.bundled.evaluate import bicubic, enlarger, load, psnr_y, score_photographs, table
from builder.bundled.train import Recipe, digest
from engine.models.esrgan.names import recognise
from engine.models.esrgan.srvgg import SRVGG, SRVGGConfig
from engine.weights.load import read_weights

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def model() -> SRVGG:
    return load(DEFAULT_FILE)


def test_the_file_is_at_most_one_megabyte() -> None:
    assert DEFAULT_FILE.stat().st_size <= 1_000_000


def test_the_keys_are_the_published_layouts() -> None:
    weights = load_file(DEFAULT_FILE)
    convs = [n for n in weights if n.endswith("weight") and weights[n].ndim == 4]
    last = 2 * (len(convs) - 1)
    assert weights["body.0.weight"].shape[1:] == (3, 3, 3)
    assert weights[f"body.{last}.weight"].shape[0] == 3 * 2**2
    assert weights.keys() == {
        *(f"body.{n}.{part}" for n in range(0, last + 1, 2) for part in ("weight", "bias")),
        *(f"body.{n}.weight" for n in range(1, last, 2)),
    }


def test_the_worker_recognises_it() -> None:
    config = recognise(read_weights(DEFAULT_FILE))
    assert isinstance(config, SRVGGConfig)
    assert config == SRVGGConfig(feat=Recipe().feat, convs=Recipe().convs, scale=2)


def test_it_came_from_the_default_recipe() -> None:
    with safe_open(DEFAULT_FILE, "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["recipe"] == dataclasses.asdict(Recipe())
    assert about["digest"] == digest(load(DEFAULT_FILE).state_dict())


def test_it_beats_bicubic_by_a_decibel_on_photographs_it_never_saw(model: SRVGG) -> None:
    scores = score_photographs(model)
    assert np.mean([s.gain for s in scores]) >= 1.0, table("clean", scores)
    # The moon's picture is pixel-doubled, so that there is nothing finer to find in it.
    assert {s.name for s in scores if s.gain <= 0} <= {"moon"}, table("clean", scores)


def test_it_beats_bicubic_on_mildly_compressed_photographs(model: SRVGG) -> None:
    scores = score_photographs(model, quality=85, middle=256)
    assert np.mean([s.gain for s in scores]) > 0.3, table("JPEG 85", scores)


@pytest.mark.parametrize(
    "colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (220, 30, 40), (20, 90, 200), (24, 60, 30)]
)
def test_flat_colours_stay_flat(model: SRVGG, colour: tuple[int, int, int]) -> None:
    flat = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 40, 40) / 255
    with torch.inference_mode():
        shift = (model(flat) - flat[..., :1, :1]).mul(255)
    assert shift.mean((0, 2, 3)).abs().max() < 0.5
    assert shift[..., 20:60, 20:60].abs().max() < 1.0


@pytest.mark.parametrize(("dark", "bright"), [(40, 200), (90, 150), (20, 235)])
@pytest.mark.parametrize("across", [False, True])
def test_a_step_edge_overshoots_less_than_five_per_cent_of_its_height(
    model: SRVGG, dark: int, bright: int, across: bool
) -> None:
    truth = np.full((64, 64, 3), dark, np.uint8)
    truth[:, 33:] = bright
    truth = truth.transpose(1, 0, 2) if across else truth
    low = truth.reshape(32, 2, 32, 2, 3).mean((1, 3)).round().astype(np.uint8)
    inner = enlarger(model)(low)[8:-8, 8:-8].astype(int)
    beyond = max(inner.max() - bright, dark - inner.min())
    assert beyond <= 0.05 * (bright - dark) + 1


def test_psnr_of_luma_is_what_its_definition_gives() -> None:
    truth = np.full((32, 32, 3), 100, np.uint8)
    guess = truth + np.uint8(10)
    assert psnr_y(guess, truth) == pytest.approx(20 * np.log10(255 / (10 * 219 / 255)), abs=1e-6)


def test_bicubic_keeps_a_flat_picture() -> None:
    flat = np.full((8, 8, 3), 77, np.uint8)
    assert np.array_equal(bicubic(flat), np.full((16, 16, 3), 77, np.uint8))
