"""A few steps of the real training run."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from builder.bundled import train as training
from builder.bundled.evaluate import load
from builder.bundled.pictures import STEPS, TRAINING, generator
from builder.bundled.pool import Pairs, kept_pairs
from builder.bundled.train import Recipe, digest, train

SHORT = Recipe(feat=8, convs=2, steps=5, batch=4, patch=16, pictures=4, side=64, warmup=2, horizon=8, cooling=2)


@pytest.fixture(autouse=True)
def _torch_as_found() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("first")
    return train(SHORT, 1, folder / "x2.safetensors", folder / "work"), folder


def test_two_runs_of_one_seed_give_the_same_weights(first: tuple[str, Path], tmp_path: Path) -> None:
    again = train(SHORT, 1, tmp_path / "x2.safetensors", tmp_path / "work")
    assert again == first[0]


def test_another_seed_gives_other_weights(first: tuple[str, Path], tmp_path: Path) -> None:
    assert train(SHORT, 2, tmp_path / "x2.safetensors", tmp_path / "work") != first[0]


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    first: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(Exception): ...

    def stop_at_three(run: training.Run, pairs: Pairs) -> None:
        if run.step == 3:
            raise Stop
        advance(run, pairs)

    advance = training.Run.advance
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(training.Run, "advance", stop_at_three)
    with pytest.raises(Stop):
        train(SHORT, 1, tmp_path / "x2.safetensors", tmp_path / "work")
    monkeypatch.setattr(training.Run, "advance", advance)
    with caplog.at_level(logging.INFO):
        assert train(SHORT, 1, tmp_path / "x2.safetensors", tmp_path / "work") == first[0]
    assert "taking up at step 3" in caplog.text


def test_the_file_says_what_it_came_from(first: tuple[str, Path]) -> None:
    told, folder = first
    with safe_open(folder / "x2.safetensors", "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["seed"] == 1
    assert about["recipe"]["steps"] == 5
    assert about["digest"] == told == digest(load(folder / "x2.safetensors").state_dict())


def test_a_step_lowers_the_loss_of_its_batch(tmp_path: Path) -> None:
    pairs = kept_pairs(tmp_path, 1, TRAINING, 4, 64)
    run = training.Run(SHORT, 1)
    low, high = training.batch(pairs, SHORT, generator(1, STEPS, 0))
    before = training.charbonnier(run.model(low), high).item()
    for _ in range(5):
        run.advance(pairs)
    assert training.charbonnier(run.model(low), high).item() < before
