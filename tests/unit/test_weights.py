"""Weight files become named tensors, and every name is accounted for."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from engine.weights.load import CheckpointMismatch, load_weights, read_weights

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2, dtype=torch.float16)}


@pytest.mark.parametrize("key", ["params_ema", "params", "state_dict", None])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_checkpoint_is_read_beneath_its_usual_keys(tmp_path: Path, key: str | None, zipped: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save({key: TENSORS} if key else TENSORS, path, _use_new_zipfile_serialization=zipped)
    read = read_weights(path)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) and read[name].dtype == TENSORS[name].dtype for name in read)


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": {"w": torch.zeros(1)}, "params_ema": {"w": torch.ones(1)}}, path)
    assert read_weights(path)["w"].item() == 1


def test_a_safetensors_file_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    save_file(TENSORS, path)
    assert torch.equal(read_weights(path)["weight"], TENSORS["weight"])


@pytest.mark.parametrize("length", range(20))
def test_no_length_of_a_header_is_taken_for_a_pickle(tmp_path: Path, length: int) -> None:
    path = tmp_path / "net.pth"
    save_file({"x" * 8 * length: torch.ones(1)}, path)  # one of these headers has 128 bytes, as a pickle begins
    assert torch.equal(read_weights(path)["x" * 8 * length], torch.ones(1))


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("harm"),))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    torch.save({"params": Harmful()}, path)
    with pytest.raises(CheckpointMismatch, match=r"net\.pth: cannot be read"):
        read_weights(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        b"\x10\x00\x00\x00\x00\x00\x00\x00{broken",
        pickle.dumps({"a": 1}, protocol=2),
        b"PK\x03\x04" + bytes(60),
    ],
    ids=["empty", "text", "safetensors", "plain pickle", "zip"],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointMismatch, match=r"^net\.pth: ") as caught:
        read_weights(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_checkpoint_of_other_things_than_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": {"w": torch.zeros(1), "epoch": 3}}, path)
    with pytest.raises(CheckpointMismatch, match="something else than named tensors"):
        read_weights(path)


def test_weights_are_given_to_a_module_without_a_copy() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    load_weights(module, TENSORS, "net")
    assert module.weight.data_ptr() == TENSORS["weight"].data_ptr()


def test_missing_and_unexpected_names_are_told() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    given = {"weight": TENSORS["weight"], **{f"extra{i}": torch.zeros(1) for i in range(7)}}
    with pytest.raises(CheckpointMismatch) as caught:
        load_weights(module, given, "net.pth")
    assert caught.value.missing == ("bias",)
    assert len(caught.value.unexpected) == 7
    assert str(caught.value) == ("net.pth: missing bias; unexpected extra0, extra1, extra2, extra3, extra4 and 2 more")


def test_a_wrong_shape_is_told() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 4)
    with pytest.raises(CheckpointMismatch, match=r"weight is \(2, 3\), not \(4, 3\)"):
        load_weights(module, TENSORS, "net.pth")
