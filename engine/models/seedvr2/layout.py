"""The order in which a layer keeps its tokens: window by window, windows of one shape side by side.

In that order every group of windows is a plain view of the stream, and attention runs over it as one batch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from engine.models.seedvr2.windows import Group, Size, groups


@dataclass(frozen=True, slots=True)
class Run:
    """Windows that attend in one call: `windows` in each of `clips` clips from number `clip` on, clip by clip."""

    clip: int
    clips: int
    windows: int
    shape: Size

    @property
    def tokens(self) -> int:
        return self.clips * self.windows * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What goes through a layer at a time: tokens [start, start + tokens) of the stream, which are those of `runs`."""

    start: int
    runs: tuple[Run, ...]

    @property
    def tokens(self) -> int:
        return sum(run.tokens for run in self.runs)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """B clips of N tokens. `windows` are those of one clip; each index is an int64 tensor (B * N,).

    order: the place in the grid (clip, frame, row, column) of each token of the stream; place: the reverse;
    turn: where each token is in the stream of the other kind of layer.
    """

    windows: int
    chunks: tuple[Chunk, ...]
    order: Tensor
    place: Tensor
    turn: Tensor


@lru_cache(maxsize=8)
def layouts(batch: int, t: int, h: int, w: int, limit: int, device: torch.device) -> tuple[Layout, Layout]:
    """The layouts of even and of odd layers, in chunks of at most `limit` tokens, or of one window if that is more."""
    found = [groups(t, h, w, shifted) for shifted in (False, True)]
    orders = [_order(kind, batch, t, h, w) for kind in found]
    places = [torch.empty_like(order).scatter_(0, order, torch.arange(len(order))) for order in orders]
    plain, shifted = (
        Layout(
            windows=sum(group.windows for group in kind),
            chunks=tuple(_chunks(kind, batch, limit)),
            order=orders[i].to(device),
            place=places[i].to(device),
            turn=places[1 - i][orders[i]].to(device),
        )
        for i, kind in enumerate(found)
    )
    return plain, shifted


def _order(found: Sequence[Group], batch: int, t: int, h: int, w: int) -> Tensor:
    clips = torch.arange(batch).view(-1, 1, 1, 1, 1, 1, 1) * (t * h * w)
    return torch.cat([(clips + _places(group, h, w)).flatten() for group in found])


def _places(group: Group, h: int, w: int) -> Tensor:
    """(windows along t, h, w; then frames, rows, columns of each) -> place in the grid."""
    frames, rows, columns = (
        (torch.tensor(starts)[:, None] + torch.arange(length)) * step
        for starts, length, step in zip(group.starts, group.shape, (h * w, w, 1), strict=True)
    )
    return frames[:, None, None, :, None, None] + rows[:, None, None, :, None] + columns[:, None, None, :]


def _chunks(found: Sequence[Group], batch: int, limit: int) -> Iterator[Chunk]:
    start, waiting = 0, list[Run]()
    for run in (run for group in found for run in _runs(group, batch, limit)):
        chunk = Chunk(start, tuple(waiting))
        if waiting and chunk.tokens + run.tokens > limit:
            yield chunk
            start, waiting = start + chunk.tokens, []
        waiting.append(run)
    yield Chunk(start, tuple(waiting))


def _runs(group: Group, batch: int, limit: int) -> Iterator[Run]:
    """Several whole clips at a time where they fit, else equal parts of one."""
    clips = limit // (group.windows * group.tokens)
    if clips:
        for clip in range(0, batch, clips):
            yield Run(clip, min(clips, batch - clip), group.windows, group.shape)
        return
    parts = math.ceil(group.windows / max(1, limit // group.tokens))
    ends = [group.windows * part // parts for part in range(parts + 1)]
    for clip in range(batch):
        for begin, end in pairwise(ends):
            yield Run(clip, 1, end - begin, group.shape)
