"""Networks that leave a GPU and come back; where none is, tensors stand in for which only their place is told."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from engine.pipelines.shuttle import Shuttle, Train

GPU = torch.device("cuda")
ELSEWHERE = torch.device("meta")  # a device without streams


@dataclass
class Values:
    device: torch.device

    def cpu(self) -> "Values":
        return Values(torch.device("cpu"))

    def pin_memory(self) -> "Values":
        return self

    def to(self, device: torch.device, non_blocking: bool) -> "Values":
        return Values(torch.device(device.type, 0))


@dataclass
class Weight:
    data: Values = field(default_factory=lambda: Values(torch.device("cuda", 0)))
    nbytes: int = 100

    @property
    def device(self) -> torch.device:
        return self.data.device


class Network:
    def __init__(self) -> None:
        self.weights = [Weight(), Weight()]

    def parameters(self) -> Iterator[Weight]:
        yield from self.weights[:1]

    def buffers(self) -> Iterator[Weight]:
        yield from self.weights[1:]

    @property
    def places(self) -> list[str]:
        return [weight.device.type for weight in self.weights]


def test_a_network_leaves_and_comes_back() -> None:
    net = Network()
    shuttle = Shuttle(net, GPU)  # type: ignore[arg-type]
    shuttle.come()
    assert (net.places, shuttle.away_bytes) == (["cuda", "cuda"], 0)
    shuttle.leave()
    assert (net.places, shuttle.away_bytes) == (["cpu", "cpu"], 200)
    shuttle.come()
    assert (net.places, shuttle.away_bytes) == (["cuda", "cuda"], 0)


def test_what_came_in_part_comes_in_full_the_next_time() -> None:
    net = Network()
    shuttle = Shuttle(net, GPU)  # type: ignore[arg-type]
    shuttle.leave()
    net.weights[0].data = net.weights[0].data.to(GPU, non_blocking=True)  # as when memory ran out at the second
    assert shuttle.away_bytes == 100
    shuttle.come()
    assert net.places == ["cuda", "cuda"]


def test_a_network_that_was_loaded_on_the_host_comes_when_it_is_wanted() -> None:
    net = Network()
    for weight in net.weights:
        weight.data = Values(torch.device("cpu"))
    shuttle = Shuttle(net, GPU)  # type: ignore[arg-type]
    assert shuttle.away_bytes == 200
    shuttle.come()
    assert (net.places, shuttle.away_bytes) == (["cuda", "cuda"], 0)


class Block(nn.Module):
    """Notes where its weights were while it worked."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.network, self.fails = Network(), fails
        self.seen: list[str] = []

    def parameters(self, recurse: bool = True) -> Iterator[Weight]:  # type: ignore[override]
        return self.network.parameters()

    def buffers(self, recurse: bool = True) -> Iterator[Weight]:  # type: ignore[override]
        return self.network.buffers()

    def forward(self) -> None:
        self.seen = self.network.places
        if self.fails:
            raise ZeroDivisionError


class Blocks(nn.Module):
    """A network of nothing but blocks."""

    def __init__(self, *blocks: Block) -> None:
        super().__init__()
        self.blocks = blocks

    def parameters(self, recurse: bool = True) -> Iterator[Weight]:  # type: ignore[override]
        return (weight for block in self.blocks for weight in block.parameters())

    def buffers(self, recurse: bool = True) -> Iterator[Weight]:  # type: ignore[override]
        return (weight for block in self.blocks for weight in block.buffers())

    def forward(self) -> None:
        for block in self.blocks:
            block()


def test_a_train_holds_only_its_first_blocks_and_brings_the_others_when_their_turn_comes() -> None:
    net = Blocks(Block(), Block(), Block(), Block())
    train = Train(net, net.blocks, ELSEWHERE)
    assert train.away_bytes == train.bytes == 800
    train.resident = 2
    train.come()
    assert train.away_bytes == 400
    net()
    assert [block.seen for block in net.blocks] == [["meta", "meta"]] * 4
    assert train.away_bytes == 400
    train.leave()
    assert train.away_bytes == 800


def test_a_block_that_fails_leaves_all_the_same() -> None:
    net = Blocks(Block(), Block(fails=True), Block())
    train = Train(net, net.blocks, ELSEWHERE)
    train.resident = 0
    with pytest.raises(ZeroDivisionError):
        net()
    assert train.away_bytes == train.bytes
