"""A clip's frames through the layers of a network, in any order that respects time.

Layer after layer over the whole clip holds all its frames; a few frames through all layers holds what layers keep of
the frames before instead. Stages lie between: each takes so many frames at a time, when the next one asks for more.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from torch import Tensor

from engine.models.causal import Clip, Layer
from engine.models.checks import Check

Frames = Iterator[tuple[Tensor, bool]]  # (B, C, H, W) each, and whether it is the clip's last
Stage = tuple[int, Sequence[Layer]]  # how many frames go through these layers at a time


def through(stages: Sequence[Stage], frames: Frames, clip: Clip, check: Check) -> Frames:
    """What all stages make of the frames. `check` is called before every layer of every two frames and may raise."""
    for size, layers in stages:
        frames = _stage(frames, size, layers, clip, check)
    return frames


def _stage(source: Frames, size: int, layers: Sequence[Layer], clip: Clip, check: Check) -> Frames:
    """What the layers make of the clip's first frame and `size` more, then of `size` at a time, when asked for it."""
    first = True
    while taken := [*islice(source, size + first)]:
        last = taken[-1][1]
        frames = [frame for frame, _ in taken]
        del taken
        frames = _layers(layers, frames, first, clip, last, check)
        while frames:
            yield frames.pop(0), last and not frames
        first = False


def _layers(
    layers: Sequence[Layer], frames: list[Tensor], first: bool, clip: Clip, last: bool, check: Check
) -> list[Tensor]:
    """Breadth first: all frames go through a layer before any goes through the next. `frames` is used up."""
    for layer in layers:
        done: list[Tensor] = []
        count = 1 if first else 2
        while frames:
            check()
            some = frames[:count]
            del frames[:count]
            done.extend(clip.through(layer, some, last and not frames))
            del some
            count = 2
        frames = done
    return frames
