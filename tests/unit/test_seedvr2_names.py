"""How a checkpoint tells which SeedVR2 transformer it is for."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from engine.models.seedvr2.config import DIT_3B, DIT_7B, DiTConfig
from engine.models.seedvr2.dit import build
from engine.models.seedvr2.names import parse
from tests.parity.seedvr2_dit import published

MANIFESTS = Path(__file__).parent.parent / "data" / "manifests" / "seedvr2"


@dataclass(frozen=True)
class Handle:
    """A tensor that has not been read."""

    shape: tuple[int, ...]


def manifest(name: str) -> dict[str, Handle]:
    return {key: Handle(tuple(shape)) for key, shape in json.loads((MANIFESTS / f"{name}.json").read_text()).items()}


@pytest.mark.parametrize("name", ["3b", "7b"])
def test_every_name_and_shape_of_the_published_file_is_ours(name: str) -> None:
    rows = list(published(name, {}, json.loads((MANIFESTS / f"{name}.json").read_text())))
    assert rows
    assert all(row.ok for row in rows)


@pytest.mark.parametrize(
    "config",
    [
        DIT_3B,
        DIT_7B,
        DiTConfig("3b", dim=256, layers=4, hidden=768, separate=2, text_dim=96),
        DiTConfig("3b", dim=256, layers=2, hidden=768, separate=0, text_dim=96),
        DiTConfig("7b", dim=128, layers=1, hidden=512, separate=1, text_dim=8),
    ],
)
def test_a_file_without_rotary_tables_tells_its_network(config: DiTConfig) -> None:
    with torch.device("meta"):
        weights = build(config).state_dict()
    checkpoint = parse(weights)
    assert checkpoint is not None
    assert checkpoint.config == config
    assert checkpoint.weights == dict(weights)


def test_prompts_that_a_file_carries_along_are_taken_out() -> None:
    positive = Handle((58, 5120))
    plain = manifest("7b")
    checkpoint = parse(plain | {"positive_conditioning": positive, "negative_conditioning": Handle((64, 5120))})
    assert checkpoint is not None
    assert checkpoint.positive is positive
    without = parse(plain)
    assert without is not None
    assert without.positive is None
    assert without.weights == checkpoint.weights


def test_a_prefix_of_all_names_is_taken_off() -> None:
    checkpoint = parse({f"model.diffusion_model.{name}": handle for name, handle in manifest("3b").items()})
    assert checkpoint == parse(manifest("3b"))


@pytest.mark.parametrize(
    "change",
    [
        {"vid_in.proj.weight": Handle((2560, 64))},
        {"vid_in.proj.weight": Handle((2500, 132))},
    ],
)
def test_other_shapes_are_not_recognised(change: dict[str, Handle]) -> None:
    assert parse(manifest("3b") | change) is None


def test_a_rotary_table_of_another_length_is_left_for_the_loader_to_name() -> None:
    name = "blocks.3.attn.rope.rope.freqs"
    checkpoint = parse(manifest("3b") | {name: Handle((22,))})
    assert checkpoint is not None
    assert [each for each in checkpoint.weights if each.endswith("rope.freqs")] == [name]


def test_other_checkpoints_are_not_recognised() -> None:
    assert parse(dict[str, Handle]()) is None
    assert parse({"conv_first.weight": Handle((64, 3, 3, 3))}) is None
    assert parse({"vid_in.proj.weight": Handle((2560,))}) is None
    assert parse({name: handle for name, handle in manifest("3b").items() if not name.startswith("blocks")}) is None
