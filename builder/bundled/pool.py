"""The pool of picture pairs a training run cuts its patches from, drawn once by all cores and kept as two arrays."""

import logging
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from builder.bundled.degrade import degrade
from builder.bundled.pictures import Picture, draw_picture, generator

log = logging.getLogger(__name__)


class Pairs(NamedTuple):
    """N pictures as they should be and as they came."""

    low: NDArray[np.uint8]  # (N, S/2, S/2, 3)
    high: NDArray[np.uint8]  # (N, S, S, 3)


def draw_pair(seed: int, stream: int, side: int, index: int) -> tuple[Picture, Picture]:
    """(low, high) of one picture, the same whoever asks and in whatever order."""
    rng = generator(seed, stream, index)
    high = draw_picture(rng, side)
    return degrade(rng, high), high


def draw_pairs(seed: int, stream: int, count: int, side: int, workers: int = 1) -> Pairs:
    draw = partial(draw_pair, seed, stream, side)
    if workers == 1:
        pairs = [draw(n) for n in range(count)]
    else:
        with ProcessPoolExecutor(workers) as pool:
            pairs = list(pool.map(draw, range(count), chunksize=20))
    return Pairs(np.stack([low for low, _ in pairs]), np.stack([high for _, high in pairs]))


def kept_pairs(folder: Path, seed: int, stream: int, count: int, side: int) -> Pairs:
    """The pool of `folder`, drawn first if it is not there. Arrays are mapped, not read."""
    low, high = folder / "low.npy", folder / "high.npy"
    if not high.exists():
        log.info("drawing %d pictures of %d pixels", count, side)
        pairs = draw_pairs(seed, stream, count, side, workers=os.cpu_count() or 1)
        np.save(low, pairs.low)
        part = folder / "part.npy"  # the name that counts appears only when everything is on disk
        np.save(part, pairs.high)
        part.rename(high)
    return Pairs(np.load(low, mmap_mode="r"), np.load(high, mmap_mode="r"))
