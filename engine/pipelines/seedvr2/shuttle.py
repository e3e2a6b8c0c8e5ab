"""A network that leaves the GPU while another works there, and comes back."""

import torch
from torch import Tensor, nn


class Shuttle:
    """Weights never change, so leaving copies nothing: pinned copies are made once and the GPU's are dropped."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        self._device = device
        self._tensors: list[Tensor] = [*net.parameters(), *net.buffers()]
        self._home: list[Tensor] = []
        self.bytes = sum(t.nbytes for t in self._tensors)

    def come(self) -> None:
        """Put onto the device what is not there; where that breaks off, it may be called again."""
        for tensor, home in zip(self._tensors, self._home, strict=bool(self._home)):
            if self._away(tensor):
                tensor.data = home.to(self._device, non_blocking=True)

    @property
    def away_bytes(self) -> int:
        """What is not on the device and would take that much of it."""
        return sum(tensor.nbytes for tensor in self._tensors if self._away(tensor))

    def _away(self, tensor: Tensor) -> bool:
        return tensor.device.type != self._device.type

    def leave(self) -> None:
        """Free the device of the network."""
        if not self._home:
            pin = self._device.type == "cuda"
            self._home = [t.data.cpu().pin_memory() if pin else t.data for t in self._tensors]
        for tensor, home in zip(self._tensors, self._home, strict=True):
            tensor.data = home
