"""Networks that leave the GPU while others work there, and come back: whole, or block by block as the work goes on."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Shuttle:
    """Weights never change, so leaving copies nothing: pinned copies are made once and the GPU's are dropped.

    The network may be on the device or, loaded there, on the host to begin with.
    """

    def __init__(self, net: nn.Module, device: torch.device, besides: Iterable[nn.Module] = ()) -> None:
        """besides: parts of `net` that travel by themselves."""
        others = {id(tensor) for part in besides for tensor in _tensors(part)}
        self._device = device
        self._tensors = [tensor for tensor in _tensors(net) if id(tensor) not in others]
        self._homes: list[Tensor | None] = [None] * len(self._tensors)
        self.bytes = sum(t.nbytes for t in self._tensors)

    def come(self) -> None:
        """Put onto the device what is not there; where that breaks off, it may be called again."""
        for i, tensor in enumerate(self._tensors):
            if self._away(tensor):
                tensor.data = self._home(i).to(self._device, non_blocking=True)

    @property
    def away_bytes(self) -> int:
        """What is not on the device and would take that much of it."""
        return sum(tensor.nbytes for tensor in self._tensors if self._away(tensor))

    def leave(self) -> None:
        """Free the device of the network."""
        for i, tensor in enumerate(self._tensors):
            tensor.data = self._home(i)

    def used_by(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of what is on the device from being used anew before the stream's work on it is done."""
        for tensor in self._tensors:
            tensor.record_stream(stream)

    def _away(self, tensor: Tensor) -> bool:
        return tensor.device.type != self._device.type

    def _home(self, i: int) -> Tensor:
        home = self._homes[i]
        if home is None:
            data = self._tensors[i].data
            home = self._homes[i] = data.cpu().pin_memory() if self._device.type == "cuda" else data
        return home


class Train:
    """A network of many equal blocks, of which only the first `resident` stay on the device while it works.

    The others come one block ahead of the work, beside it, and leave behind it. All stay unless told otherwise.
    """

    def __init__(self, net: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> None:
        self._rest = Shuttle(net, device, besides=blocks)
        self._blocks = [Shuttle(block, device) for block in blocks]
        self._device = device
        self._ahead = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._under_way: dict[int, torch.cuda.Event] = {}
        self._behind: torch.cuda.Event | None = None  # the work of the block before the one that was asked for last
        self.resident = len(blocks)
        for i, block in enumerate(blocks):
            block.register_forward_pre_hook(lambda *_, i=i: self._arrive(i))
            block.register_forward_hook(lambda *_, i=i: self._depart(i), always_call=True)

    @property
    def bytes(self) -> int:
        return self._rest.bytes + sum(block.bytes for block in self._blocks)

    @property
    def away_bytes(self) -> int:
        return self._rest.away_bytes + sum(block.away_bytes for block in self._blocks)

    def come(self) -> None:
        """Put onto the device what shall stay there; blocks beyond leave it, also such as were under way."""
        self._under_way.clear()
        self._rest.come()
        for i, block in enumerate(self._blocks):
            if i < self.resident:
                block.come()
            else:
                block.leave()

    def leave(self) -> None:
        """Free the device of the network."""
        self._under_way.clear()
        self._rest.leave()
        for block in self._blocks:
            block.leave()

    def _arrive(self, i: int) -> Any:
        if (event := self._under_way.pop(i, None)) is not None:
            here = torch.cuda.current_stream(self._device)
            here.wait_event(event)
            self._blocks[i].used_by(here)
        self._blocks[i].come()  # nothing is left to do where it came ahead

    def _depart(self, i: int) -> Any:
        if i >= self.resident:
            self._blocks[i].leave()
        if self._ahead is not None and i + 1 < len(self._blocks) and self._blocks[i + 1].away_bytes:
            self._send_for(i + 1, self._ahead)

    def _send_for(self, i: int, ahead: torch.cuda.Stream) -> None:
        """While the device works on block i - 1, and not before it is done with i - 2: else all would come at once."""
        if self._behind is not None:
            self._behind.synchronize()
        self._behind = torch.cuda.current_stream(self._device).record_event()
        with torch.cuda.stream(ahead):
            self._blocks[i].come()
            self._under_way[i] = ahead.record_event()


def _tensors(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
