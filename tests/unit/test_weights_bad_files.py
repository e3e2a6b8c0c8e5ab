"""A file that is not what it should be is refused by its name, with what is wrong with it."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.weights.load import CheckpointMismatch, load_weights, open_weights, read_weights

TENSORS = {"weight": torch.arange(32.0 * 4).view(4, 32), "bias": torch.ones(4, dtype=torch.float16)}


def write_gguf(tensors: dict[str, Tensor], path: Path) -> None:
    writer = GGUFWriter(path, "seedvr")
    writer.add_array("some.words", ["a", "b"])
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


WRITERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "safetensors": save_file,
    "gguf": write_gguf,
    "pth": torch.save,
}


def whole(tmp_path: Path, kind: str, tensors: dict[str, Tensor] = TENSORS) -> Path:
    path = tmp_path / f"net.{kind}"
    WRITERS[kind](tensors, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointMismatch) as caught:
        open_weights(path)
    text = str(caught.value)
    assert text.startswith(f"{path.name}: cannot be read: ")
    assert str(path.parent) not in text
    return text.removeprefix(f"{path.name}: cannot be read: ")


@pytest.mark.parametrize("kind", WRITERS)
def test_all_containers_tell_names_shapes_and_types_before_they_are_read(tmp_path: Path, kind: str) -> None:
    path = whole(tmp_path, kind)
    opened = open_weights(path)
    assert {name: (stored.shape, stored.dtype) for name, stored in opened.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in TENSORS.items()
    }
    assert all(torch.equal(stored.read(), TENSORS[name]) for name, stored in opened.items())
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in read_weights(path).items())


@pytest.mark.parametrize("kind", WRITERS)
def test_values_are_read_when_they_are_wanted_not_when_the_file_is_opened(tmp_path: Path, kind: str) -> None:
    path = whole(tmp_path, kind, {"w": torch.zeros(2**18)})
    opened = open_weights(path)["w"]
    with path.open("r+b") as file:
        file.seek(opened.offset)
        file.write(struct.pack("<f", 7.0))
    assert opened.read()[0] == 7


@pytest.mark.parametrize("share", [0.001, 0.02, 0.2, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = whole(tmp_path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: max(int(len(content) * share), 1)])
    assert any(words in refusal(path) for words in ("cut short", "neither safetensors nor GGUF", "damaged"))


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_a_half_written_file_is_told_with_the_tensor_that_is_not_whole(tmp_path: Path, kind: str) -> None:
    path = whole(tmp_path, kind)
    opened = open_weights(path)
    name, last = max(opened.items(), key=lambda item: item[1].offset)
    end = last.offset + last.nbytes
    path.write_bytes(path.read_bytes()[: end - 3])
    assert refusal(path) == f"it is cut short: it has {end - 3} bytes, and {name} ends at {end}"


def test_a_file_that_shrinks_between_opening_and_reading_is_told(tmp_path: Path) -> None:
    path = whole(tmp_path, "safetensors")
    opened = open_weights(path)
    path.write_bytes(path.read_bytes()[:-100])
    with torch.device("meta"):
        net = nn.Linear(32, 4)
    with pytest.raises(CheckpointMismatch, match=r"^net: cannot be read: net\.safetensors ended while it was read"):
        load_weights(net, opened, "net")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"\x80\x02", "it is cut short: it has 2 bytes"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "it is a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "it is a Git LFS pointer"),
        (bytes(4096), "its beginning was never written"),
        (b"anything else at all, but long enough", "neither safetensors nor GGUF nor a PyTorch checkpoint"),
        (b"\x80\x02}q\x00." + bytes(20), "PyTorch's format before 1.6"),
        (b"PK\x03\x04" + bytes(60), "cut short or damaged: a zip archive without its list of contents"),
        (b"GGUF", "its header is cut short"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**40, 0), "it speaks of 1099511627776 entries"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "GGUF of version 1; read are 2, 3"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "GGUF of version 50331648"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**60), "it speaks of 1152921504606846976 entries"),
        (struct.pack("<Q", 2**40) + b"{}", "its header of 1099511627776 bytes is cut short: the file has 10"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_other_things_than_checkpoints_are_told_for_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    assert words in refusal(path)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ('{"a": ', "its header is damaged"),
        ('{"a": ' + "[" * 100_000, "recursion"),
        ('{"a": 1, "a": 2}', "a name comes twice"),
        ({"a": ENTRY, "b": ENTRY}, "b does not begin where the tensor before it ends"),
        ({"a": {**ENTRY, "data_offsets": [4, 12]}}, "a does not begin where"),
        ({"a": {**ENTRY, "dtype": "F4"}}, "a is F4, which this engine does not read"),
        ({"a": {**ENTRY, "shape": [3]}}, "a has 8 bytes where F32 [3] takes 12"),
        ({"a": {**ENTRY, "shape": [-2]}}, "no tensor is (-2,)"),
        ({"a": {**ENTRY, "shape": [2**62, 2**62]}}, "no tensor is"),
        ({"a": {"dtype": "F32"}}, "its header is damaged at a"),
        ({}, "it has 8 bytes of values where its header speaks of 0"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_damaged_header_is_told(tmp_path: Path, header: Any, words: str) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    assert words in refusal(path)


@pytest.mark.parametrize("kind", ["IQ4_NL", "TQ1_0", "MXFP4"])
def test_a_gguf_type_that_we_do_not_read_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.gguf"
    writer = GGUFWriter(path, "seedvr")
    nbytes = {"IQ4_NL": 18 * 8, "TQ1_0": 54, "MXFP4": 17 * 8}[kind]
    writer.add_tensor("w", np.zeros((4, nbytes), np.uint8), raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert refusal(path).startswith(f"w is of the GGUF type {kind}, which this engine does not read; read are Q4_0, ")


def test_a_checkpoint_that_was_compressed_is_refused(tmp_path: Path) -> None:
    path, packed = whole(tmp_path, "pth"), tmp_path / "packed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "its values are compressed" in refusal(packed)


def test_a_transposed_tensor_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"w": TENSORS["weight"].T}, path)
    assert refusal(path) == "w is not stored row by row"


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {"weights": w["weight"], "bias": w["bias"]}, "missing weight; unexpected weights"),
        (lambda w: {"weight": w["weight"]}, "missing bias"),
        (lambda w: {"conv.0.w": w["bias"]}, "missing bias, weight; unexpected conv.0.w"),
        (lambda w: {**w, "weight": w["weight"].view(8, 16)}, "weight is (8, 16), not (4, 32)"),
        (lambda w: {**w, "bias": torch.ones(4, dtype=torch.int8)}, "bias is of int8, which is no form of weights"),
    ],
    ids=["renamed", "missing", "foreign", "shape", "type"],
)
def test_a_checkpoint_of_another_network_is_told_before_it_is_read(
    tmp_path: Path, kind: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], words: str
) -> None:
    path = whole(tmp_path, kind, change(TENSORS))
    opened = open_weights(path)
    path.unlink()  # nothing more may be read
    with torch.device("meta"):
        net = nn.Linear(32, 4)
    with pytest.raises(CheckpointMismatch) as caught:
        load_weights(net, opened, path.name)
    assert str(caught.value) == f"{path.name}: {words}"
