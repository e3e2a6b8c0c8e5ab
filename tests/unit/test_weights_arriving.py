"""Whoever loads weights hears of each tensor that is in, and may end the loading."""

import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from engine.weights.load import load_weights, open_weights
from engine.weights.reading import Reader
from engine.weights.stored import Stored

LAYERS = 200


def stack(path: Path) -> tuple[nn.Module, dict[str, Stored]]:
    """A network of many small layers on `meta`, and its weights in a file."""
    save_file({f"{i}.weight": torch.full((8, 8), float(i)) for i in range(LAYERS)}, path)
    with torch.device("meta"):
        net = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(LAYERS)))
    return net, open_weights(path)


def test_bytes_are_heard_in_the_caller_s_thread_and_add_up(tmp_path: Path) -> None:
    net, weights = stack(tmp_path / "net.safetensors")
    heard: list[tuple[int, threading.Thread]] = []
    load_weights(net, weights, "net", arrived=lambda nbytes: heard.append((nbytes, threading.current_thread())))
    assert sum(nbytes for nbytes, _ in heard) == sum(tensor.nbytes for tensor in net.state_dict().values())
    assert len(heard) == LAYERS and {thread for _, thread in heard} == {threading.current_thread()}


def test_what_the_hearer_raises_comes_out_as_it_is_and_few_more_tensors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, weights = stack(tmp_path / "net.safetensors")
    read: list[Stored] = []
    raw = Reader.raw

    def slow_disk(self: Reader, stored: Stored) -> torch.Tensor:
        time.sleep(0.01)
        read.append(stored)
        return raw(self, stored)

    def stop(_: int) -> None:
        raise ValueError("no more")

    monkeypatch.setattr(Reader, "raw", slow_disk)
    with pytest.raises(ValueError, match=r"^no more$"):
        load_weights(net, weights, "net", arrived=stop)
    assert len(read) < LAYERS / 2
