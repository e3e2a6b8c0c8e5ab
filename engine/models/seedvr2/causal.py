"""Convolutions that see a frame and the two before it, by two frames at a time.

A clip's first frame comes alone, then all others by twos; each is (B, C, H, W) with channels last, and the last one may
lack its second. What a layer still needs of earlier frames lies in a `Clip`, never in the layer. With W0, W1, W2 the
weights of the frames from the earliest on, S = W0 + W1 + W2 and D = W0 - W1 + W2, the sums over three frames come from
fewer convolutions of one frame. Before a clip's first frame x0 there are only copies of it:

    y0 = S x0                                                          1 instead of 3
    y1 = y0 + W2 (x1 - x0)
    y2 = y0 + W1 (x1 - x0) + W2 (x2 - x0)                              3 instead of 6

and any later c and d after a and b make Winograd's F(2, 3) over time (Lavin and Gray, arXiv:1509.09308):

    m = S (b + c) / 2,  n = D (c - b) / 2
    y_c = m + n + W0 (a - c)
    y_d = m - n + W2 (d - b)                                           4 instead of 6

Neighbouring frames differ little, so what is taken from these differences hardly loses precision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRST, MIDDLE, LAST, STILL, TURN = range(5)  # kernels: W0, W1, W2, S, D / 2

Tap = Callable[[int, Tensor], Tensor]  # by one of the kernels; the bias comes with STILL


@dataclass(slots=True)
class Past:
    """A layer's last inputs, and its answer to the clip's first frame while the next two build upon it."""

    frames: list[Tensor]
    first_answer: Tensor | None = None


@dataclass(slots=True)
class Clip:
    """What the layers keep of one clip."""

    past: dict[nn.Module, Past] = field(default_factory=dict)


class Layer(Protocol):
    """One or two frames go in, and those come out that they complete. After the clip's `last` nothing is kept."""

    def __call__(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]: ...


class Causal(nn.Module):
    """Anything that sees three frames. What `tap` does by each kernel is the subclass's."""

    kept = 2  # frames that later answers need

    def tap(self, kernel: int, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        past = clip.past.pop(self, None) or Past([])
        opening = not past.frames
        answers = self.answers(past, frames)
        if not last:
            clip.past[self] = Past(frames[-self.kept :], answers[0] if opening else None)
        return answers

    def answers(self, past: Past, frames: list[Tensor]) -> list[Tensor]:
        if not past.frames:
            return [self.tap(STILL, *frames)]
        if past.first_answer is not None:
            seen = [*past.frames, *frames]
            return [early(self.tap, seen[:count], past.first_answer) for count in range(2, len(seen) + 1)]
        if len(frames) == 1:
            return [one(self.tap, *past.frames, *frames)]
        return two(self.tap, past.frames, *frames)


class CausalConv(Causal):
    """3x3x3 convolution. `prepare` turns the published weight (O, I, 3, 3, 3) into the kernels, (5, O, I, 3, 3)."""

    kernels = TURN + 1

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))

    def prepare(self) -> None:
        weight = self.weight.detach()
        kernels = with_sums(weight.unbind(2))[: self.kernels].permute(0, 1, 3, 4, 2).to(weight.dtype).contiguous()
        self.weight = nn.Parameter(kernels.permute(0, 1, 4, 2, 3), requires_grad=False)  # channels last, each

    def tap(self, kernel: int, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        return F.conv2d(x, self.weight[kernel], self.bias if kernel == STILL else None, padding=1)


class StridedConv(CausalConv):
    """The same for a clip's first frame, third, fifth, ..., at half the size: zeros at the right and below only."""

    kept = 1
    kernels = STILL + 1

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        return super().forward([F.pad(x, (0, 1, 0, 1)) for x in frames], clip, last)

    def answers(self, past: Past, frames: list[Tensor]) -> list[Tensor]:
        if not past.frames:
            return [self.tap(STILL, *frames)]
        seen = [*past.frames, *frames]
        if past.first_answer is not None:
            return [early(self.tap, seen, past.first_answer)]
        return [one(self.tap, *seen)]

    def tap(self, kernel: int, x: Tensor) -> Tensor:  # (B, I, H + 1, W + 1) -> (B, O, H / 2, W / 2)
        return F.conv2d(x, self.weight[kernel], self.bias if kernel == STILL else None, stride=2)


def with_sums(taps: Sequence[Tensor]) -> Tensor:
    """The kernels of W0, W1 and W2, in float32, one after another."""
    w0, w1, w2 = (tap.float() for tap in taps)
    return torch.stack((w0, w1, w2, w0 + w1 + w2, (w0 - w1 + w2) / 2))


def early(tap: Tap, seen: list[Tensor], first_answer: Tensor) -> Tensor:
    """The second answer or the third, after as many frames."""
    y = tap(LAST, seen[-1] - seen[0]).add_(first_answer)
    return y if len(seen) == 2 else y.add_(tap(MIDDLE, seen[1] - seen[0]))


def one(tap: Tap, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The answer to c, which nothing follows: as many convolutions as frames."""
    return tap(STILL, b).add_(tap(FIRST, a - b)).add_(tap(LAST, c - b))


def two(tap: Tap, seen: list[Tensor], c: Tensor, d: Tensor) -> list[Tensor]:
    """The answers to c and d. `seen`, a and b, is used up: a is not needed for long."""
    a, b = seen
    seen.clear()
    y_c = tap(FIRST, a - c)
    del a
    y_d = tap(STILL, torch.lerp(b, c, 0.5))
    turn = tap(TURN, c - b)
    y_c.add_(y_d).add_(turn)
    y_d.sub_(turn)
    del turn
    return [y_c, y_d.add_(tap(LAST, d - b))]
