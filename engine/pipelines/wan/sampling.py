"""From noise to latents: the network's velocity under guidance, over windows, and the noise that all begins from.

Latents are (16, T, h, w) in float32, T = n + 1 for 4 n + 1 frames, h = H / 8, w = W / 8.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from engine.models.checks import Check
from engine.pipelines.wan.windows import ramps, windows

CHANNELS = 16
C = TypeVar("C")
Velocity = Callable[[Tensor, float, Sequence[C], Check], Tensor]
"""The transformer: x (B, C, T, h, w), the timestep, a context for each sample -> (B, 16, T, h, w) float32."""


def draw_noise(latents: int, height: int, width: int, seed: int) -> Tensor:
    """(16, T, h, w) of a seed, drawn on the CPU so that it is the same on every device."""
    return torch.randn(CHANNELS, latents, height, width, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, slots=True)
class Denoiser(Generic[C]):
    """What the network is told at every step. contexts: the prompt's, and the negative one's where there is guidance.

    guidance: v = v_negative + guidance (v_prompt - v_negative), Ho and Salimans, arXiv:2207.12598. condition:
    (20, T, h, w) of i2v, the mask of given frames and their latents, which the network sees beside x.
    """

    net: Velocity[C]
    contexts: Sequence[C]
    guidance: float
    condition: Tensor | None
    dtype: torch.dtype

    def velocity(self, x: Tensor, timestep: float, *, batched: bool, check: Check) -> Tensor:
        """(16, T, h, w) of x. batched: both contexts at once, which takes twice the memory and gives the same."""
        spans = windows(x.shape[1])
        if len(spans) == 1:
            return self._guided(x, self.condition, timestep, batched, check)
        mixed = torch.zeros_like(x)
        for span, share in zip(spans, ramps(spans), strict=True):
            condition = None if self.condition is None else self.condition[:, span]
            v = self._guided(x[:, span], condition, timestep, batched, check)
            mixed[:, span] += v * share.to(x.device).view(-1, 1, 1)
        return mixed

    def _guided(self, x: Tensor, condition: Tensor | None, timestep: float, batched: bool, check: Check) -> Tensor:
        x = (x if condition is None else torch.cat((x, condition))).to(self.dtype)[None]
        if batched:
            parts = self.net(x.expand(len(self.contexts), -1, -1, -1, -1), timestep, self.contexts, check).unbind()
        else:
            parts = tuple(self.net(x, timestep, [context], check)[0] for context in self.contexts)
        if len(parts) == 1:
            return parts[0]
        positive, negative = parts
        return torch.lerp(negative, positive, self.guidance)
