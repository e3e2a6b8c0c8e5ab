"""Which tokens attend to each other: windows whose size follows from the picture's proportions, not from its size.

SeedVR, arXiv:2501.01320, section 3.1; the published configuration makes 4 x 3 x 3 windows of a 720p token grid, and
windows of about that size of any other. Layers with odd numbers shift them by half a window. No torch in here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int, int]  # frames, rows, columns of tokens
Piece = tuple[int, int]  # start and end along one axis

_TOKENS_720P = 45 * 80
_FRAMES = 30  # the length in time beyond which windows no longer grow
_WINDOWS: Size = (4, 3, 3)


@dataclass(frozen=True, slots=True)
class Group:
    """All windows of one shape: they start at every combination of `starts` along the three axes."""

    shape: Size
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def windows(self) -> int:
        return math.prod(len(starts) for starts in self.starts)

    @property
    def tokens(self) -> int:
        """Of one window."""
        return math.prod(self.shape)


def window_size(t: int, h: int, w: int) -> Size:
    """The size of a whole window in a grid of tokens; Python's rounding, half to even, is the published one."""
    scale = math.sqrt(_TOKENS_720P / (h * w))
    frames, rows, columns = _WINDOWS
    return (
        math.ceil(min(t, _FRAMES) / frames),
        math.ceil(round(h * scale) / rows),
        math.ceil(round(w * scale) / columns),
    )


def pieces(n: int, size: int, shifted: bool) -> list[Piece]:
    """An axis of n tokens cut into windows of `size`: the last may be shorter, and the first of shifted ones is."""
    first = size // 2 if shifted and size < n and size > 1 else size
    ends = [*range(first, n, size), n]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def groups(t: int, h: int, w: int, shifted: bool) -> list[Group]:
    """The windows of a grid by shape: at most 27 groups, whatever the number of windows."""
    size = window_size(t, h, w)
    axes = [_by_length(pieces(n, k, shifted)) for n, k in zip((t, h, w), size, strict=True)]
    return [
        Group((dt, dh, dw), (axes[0][dt], axes[1][dh], axes[2][dw]))
        for dt in axes[0]
        for dh in axes[1]
        for dw in axes[2]
    ]


def _by_length(axis: Sequence[Piece]) -> dict[int, tuple[int, ...]]:
    lengths = dict.fromkeys(end - start for start, end in axis)
    return {length: tuple(start for start, end in axis if end - start == length) for length in lengths}
