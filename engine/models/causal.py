"""Convolutions that see a frame and the two before it, by two frames at a time.

A clip's first frame comes alone, then all others by twos; each is (B, C, H, W) with channels last, and the last one may
lack its second. What a layer still needs of earlier frames lies in a `Clip`, never in the layer. With W0, W1, W2 the
weights of the frames from the earliest on, S = W0 + W1 + W2 and D = W0 - W1 + W2, any c and d after a and b make
Winograd's F(2, 3) over time (Lavin and Gray, arXiv:1509.09308):

    m = S (b + c) / 2,  n = D (c - b) / 2
    y_c = m + n + W0 (a - c)
    y_d = m - n + W2 (d - b)                                           4 convolutions of one frame instead of 6

Neighbouring frames differ little, so what is taken from these differences hardly loses precision. What a network takes
for the frames before a clip's first is its own: nothing (zeros) here, copies of the first for SeedVR2.
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

    def through(self, layer: "Layer", frames: list[Tensor], last: bool) -> list[Tensor]:
        """What the layer makes of the frames."""
        return layer(frames, self, last)


class Layer(Protocol):
    """One or two frames go in, and those come out that they complete. After the clip's `last` nothing is kept."""

    def __call__(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]: ...


class Causal(nn.Module):
    """Anything that sees three frames. What `tap` does by each kernel is the subclass's."""

    kept = 2  # frames that later answers need

    def tap(self, kernel: int, x: Tensor) -> Tensor:
        raise NotImplementedError

    def opening(self, x: Tensor) -> tuple[Tensor, Past]:
        """The answer to a clip's first frame, and what is kept of it."""
        raise NotImplementedError

    def forward(self, frames: list[Tensor], clip: Clip, last: bool) -> list[Tensor]:
        past = clip.past.pop(self, None)
        if past is None:
            answer, now = self.opening(*frames)
            answers = [answer]
        else:
            answers, now = self.answers(past, frames), Past(frames[-self.kept :])
        if not last:
            clip.past[self] = now
        return answers

    def answers(self, past: Past, frames: list[Tensor]) -> list[Tensor]:
        if len(frames) == 1:
            return [one(self.tap, *past.frames, *frames)]
        return two(self.tap, past.frames, *frames)


class CausalConv(Causal):
    """3x3x3 convolution with zeros before a clip's first frame.

    `prepare` turns the published weight (O, I, 3, 3, 3) into that of the `kernels`, (K, O, I, 3, 3).
    """

    kernels: tuple[int, ...] = (FIRST, LAST, STILL, TURN)

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))

    def prepare(self) -> None:
        weight = self.weight.detach()
        kernels = with_sums(weight.unbind(2))[list(self.kernels)].permute(0, 1, 3, 4, 2).to(weight.dtype).contiguous()
        self.weight = nn.Parameter(kernels.permute(0, 1, 4, 2, 3), requires_grad=False)  # channels last, each

    def opening(self, x: Tensor) -> tuple[Tensor, Past]:
        return self.convolved(LAST, x, self.bias), Past([torch.zeros_like(x), x])

    def tap(self, kernel: int, x: Tensor) -> Tensor:  # (B, I, H, W) -> (B, O, H, W)
        return self.convolved(kernel, x, self.bias if kernel == STILL else None)

    def convolved(self, kernel: int, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, self.weight[self.kernels.index(kernel)], bias, padding=1)


def with_sums(taps: Sequence[Tensor]) -> Tensor:
    """The kernels of W0, W1 and W2, in float32, one after another."""
    w0, w1, w2 = (tap.float() for tap in taps)
    return torch.stack((w0, w1, w2, w0 + w1 + w2, (w0 - w1 + w2) / 2))


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
