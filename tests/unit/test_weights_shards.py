"""Checkpoints of several files, and parts of stored tensors."""

import json
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file
from torch import Tensor

from engine.weights.load import CheckpointMismatch, open_all, open_weights
from engine.weights.quants import dequantize as numbers

TENSORS = {"a": torch.arange(12.0).view(4, 3), "b": torch.ones(2), "c": torch.zeros(5)}


def write(tmp_path: Path) -> list[Path]:
    save_file({"a": TENSORS["a"]}, tmp_path / "net-1.safetensors")
    save_file({name: TENSORS[name] for name in "bc"}, tmp_path / "net-2.safetensors")
    places = {"a": "net-1.safetensors", "b": "net-2.safetensors", "c": "net-2.safetensors"}
    index = tmp_path / "net.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 76}, "weight_map": places}))
    return [tmp_path / "net-1.safetensors", tmp_path / "net-2.safetensors", index]


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    opened = open_all(write(tmp_path))
    assert opened.keys() == TENSORS.keys()
    assert all(torch.equal(stored.read(), TENSORS[name]) for name, stored in opened.items())


def test_a_missing_shard_is_told_by_the_index(tmp_path: Path) -> None:
    first, _, index = write(tmp_path)
    with pytest.raises(CheckpointMismatch, match=r"tensors of net-2\.safetensors are not there; missing b, c"):
        open_all([first, index])


def test_a_tensor_in_two_shards_is_told(tmp_path: Path) -> None:
    first, second, _ = write(tmp_path)
    save_file({"a": TENSORS["a"]}, second)
    with pytest.raises(CheckpointMismatch, match=r"^net-2\.safetensors: a is in another shard, too"):
        open_all([first, second])


@pytest.mark.parametrize("text", ["{}", "[]", '{"weight_map": [1]}', "no json"])
def test_a_damaged_index_is_told(tmp_path: Path, text: str) -> None:
    *shards, index = write(tmp_path)
    index.write_text(text)
    with pytest.raises(CheckpointMismatch, match=r"^net\.safetensors\.index\.json: cannot be read"):
        open_all([*shards, index])


@pytest.mark.parametrize("part", [(0, 4), (1, 3), (3, 4), (2, 2), (3, 9)])
def test_rows_are_a_slice_of_the_first_dimension(tmp_path: Path, part: tuple[int, int]) -> None:
    stored = open_weights(write(tmp_path)[0])["a"].rows(*part)
    assert stored.shape == TENSORS["a"][slice(*part)].shape
    assert torch.equal(stored.read(), TENSORS["a"][slice(*part)])


def write_blocks(path: Path, x: Tensor, shape: list[int] | None = None) -> None:
    writer = GGUFWriter(path, "wan")
    if shape:
        writer.add_array("comfy.gguf.orig_shape.w", shape)
    kind = GGMLQuantizationType.Q8_0
    writer.add_tensor("w", quantize(x.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_rows_of_blocks_are_whole_blocks(tmp_path: Path) -> None:
    x = torch.randn(6, 64)
    write_blocks(tmp_path / "net.gguf", x)
    stored = open_weights(tmp_path / "net.gguf")["w"].rows(2, 4)
    assert stored.block is not None
    assert stored.shape == (2, 64)
    whole = torch.from_numpy(dequantize(quantize(x.numpy(), GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0))
    assert torch.equal(numbers(stored.read(), stored.block, torch.float32).view(2, 64), whole[2:4])


def test_rows_that_begin_within_a_block_are_refused(tmp_path: Path) -> None:
    write_blocks(tmp_path / "net.gguf", torch.randn(6, 64), [24, 16])
    with pytest.raises(ValueError, match="rows of 16 values cannot be told apart in Q8_0 blocks"):
        open_weights(tmp_path / "net.gguf")["w"].rows(0, 2)
