"""SeedVR2's convolutions over time: before a clip's first frame x0 there are only copies of it.

So its first three answers come of fewer convolutions of one frame, too (names as in `engine.models.causal`):

    y0 = S x0                                                          1 instead of 3
    y1 = y0 + W2 (x1 - x0)
    y2 = y0 + W1 (x1 - x0) + W2 (x2 - x0)                              3 instead of 6
"""

import torch.nn.functional as F
from torch import Tensor

from engine.models import causal
from engine.models.causal import FIRST, LAST, MIDDLE, STILL, TURN, Causal, Clip, Past, Tap, one


class AfterCopies(Causal):
    """With copies of a clip's first frame before it."""

    def opening(self, x: Tensor) -> tuple[Tensor, Past]:
        y = self.tap(STILL, x)
        return y, Past([x], y)

    def answers(self, past: Past, frames: list[Tensor]) -> list[Tensor]:
        if past.first_answer is None:
            return super().answers(past, frames)
        seen = [*past.frames, *frames]
        return [early(self.tap, seen[:count], past.first_answer) for count in range(2, len(seen) + 1)]


class CausalConv(AfterCopies, causal.CausalConv):
    """3x3x3 convolution."""

    kernels: tuple[int, ...] = (FIRST, MIDDLE, LAST, STILL, TURN)


class StridedConv(CausalConv):
    """The same for a clip's first frame, third, fifth, ..., at half the size: zeros at the right and below only."""

    kept = 1
    kernels = (FIRST, MIDDLE, LAST, STILL)

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        return super().forward([F.pad(x, (0, 1, 0, 1)) for x in frames], clip, last)

    def answers(self, past: Past, frames: list[Tensor]) -> list[Tensor]:
        seen = [*past.frames, *frames]
        if past.first_answer is not None:
            return [early(self.tap, seen, past.first_answer)]
        return [one(self.tap, *seen)]

    def convolved(self, kernel: int, x: Tensor, bias: Tensor | None) -> Tensor:  # (B, I, H + 1, W + 1) -> half
        return F.conv2d(x, self.weight[self.kernels.index(kernel)], bias, stride=2)


def early(tap: Tap, seen: list[Tensor], first_answer: Tensor) -> Tensor:
    """The second answer or the third, after as many frames."""
    y = tap(LAST, seen[-1] - seen[0]).add_(first_answer)
    return y if len(seen) == 2 else y.add_(tap(MIDDLE, seen[1] - seen[0]))
