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
        """Put the network onto its device, if it is away."""
        if not self._home or self._tensors[0].device.type == self._device.type:
            return
        for tensor, home in zip(self._tensors, self._home, strict=True):
            tensor.data = home.to(self._device, non_blocking=True)

    def leave(self) -> None:
        """Free the device of the network."""
        if not self._home:
            pin = self._device.type == "cuda"
            self._home = [t.data.cpu().pin_memory() if pin else t.data for t in self._tensors]
        for tensor, home in zip(self._tensors, self._home, strict=True):
            tensor.data = home
