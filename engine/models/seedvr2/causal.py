"""Convolutions that see a frame and the two before it, one frame at a time.

A clip is worked on frame by frame, each of them (B, C, H, W) with channels last; what a layer still needs of earlier
frames lies in a `Clip`, never in the layer. A 3x3x3 convolution is a 2-D one over three frames side by side in the
channels. Before a clip's first frame there are only copies of it, so three sums come cheaper, with S the sum of the
weights W0, W1, W2 of the frames from the earliest on:

    y[0] = S x[0]                                              a third of the products
    y[1] = y[0] + W2 (x[1] - x[0])                             a third
    y[2] = y[0] + W1 (x[1] - x[0]) + W2 (x[2] - x[0])          two thirds
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 3


@dataclass(slots=True)
class Past:
    """A layer's last inputs, and its answer to the clip's first frame while later ones build upon it."""

    frames: list[Tensor]
    first_answer: Tensor | None = None


@dataclass(slots=True)
class Clip:
    """What the layers keep of one clip; a `thrifty` one forgets first answers a frame sooner, at some more work."""

    thrifty: bool = False
    past: dict[nn.Module, Past] = field(default_factory=dict)


class Layer(Protocol):
    """A frame goes in, and as many come out as it completes. After the clip's `last` frame nothing is kept."""

    def __call__(self, x: Tensor, clip: Clip, last: bool) -> Sequence[Tensor]: ...


class CausalConv(nn.Module):
    """3x3x3 convolution, of every frame or (`stride` 2) of every second one from the first on, at half the size.

    `prepare` turns the published weight (O, I, 3, 3, 3) into (O, 3 I, 3, 3), and adds the sum over time.
    """

    still: Tensor

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.stride = inputs, stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, TAPS, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))

    def prepare(self) -> None:
        taps = self.weight.detach()
        self.register_buffer("still", _channels_last(taps.sum(2, dtype=torch.float32).to(taps)), persistent=False)
        self.weight = nn.Parameter(_channels_last(taps.transpose(1, 2).flatten(1, 2)), requires_grad=False)

    def forward(self, x: Tensor, clip: Clip, last: bool) -> list[Tensor]:  # (B, I, H, W) -> 0 or 1 of (B, O, H', W')
        if self.stride == 2:
            x = F.pad(x, (0, 1, 0, 1))
        past = clip.past.pop(self, None) or Past([])
        answer = self.answer(past, x)
        if not last:
            clip.past[self] = self.kept(past, x, answer, clip.thrifty)
        return [] if answer is None else [answer]

    def answer(self, past: Past, x: Tensor) -> Tensor | None:
        seen, first = past.frames, past.first_answer
        if not seen:
            return self.conv(x, self.still, self.bias)
        if self.stride == 2 and len(seen) == 1:
            return None
        if first is None:
            return self.conv(torch.cat((*seen, x), dim=1), self.weight, self.bias)
        changes = torch.cat([frame - seen[0] for frame in (*seen[1:], x)], dim=1)
        return self.conv(changes, self.weight[:, -changes.shape[1] :], None).add_(first)

    def kept(self, past: Past, x: Tensor, answer: Tensor | None, thrifty: bool) -> Past:
        frames = [*past.frames, x]
        if self.stride == 2 and len(frames) == TAPS:
            return Past([x])
        if not past.frames:
            return Past(frames, answer)
        return Past(frames[-2:], past.first_answer if len(frames) == 2 and not thrifty else None)

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, stride=self.stride, padding=0 if self.stride == 2 else 1)


def _channels_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)
