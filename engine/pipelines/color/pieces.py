"""How much of a picture the colour corrections work on at a time.

Their steps take several times their input for intermediate results. In pieces these stay small, and on a CPU in cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

CPU_PIXELS = 2**16
GPU_PIXELS = 2**20  # enough to keep a large one busy


def piece_pixels(device: torch.device) -> int:
    return CPU_PIXELS if device.type == "cpu" else GPU_PIXELS


def bands(length: int, across: int, pixels: int) -> Iterator[slice]:
    """Cut `length` lines of `across` pixels each into bands of about `pixels`."""
    step = max(pixels // across, 1)
    for start in range(0, length, step):
        yield slice(start, start + step)


def pieces(x: Tensor) -> Iterator[tuple[int, slice]]:
    """(frame, rows) of each piece of (T, C, H, W)."""
    frames, _, height, width = x.shape
    for t in range(frames):
        for rows in bands(height, width, piece_pixels(x.device)):
            yield t, rows
