"""Networks that leave a GPU and come back; where none is, tensors stand in for which only their place is told."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from engine.pipelines.seedvr2.shuttle import Shuttle

GPU = torch.device("cuda")


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
