"""Videos longer than the network was trained on: overlapping windows that agree with each other at every step.

Every window is denoised as a clip of its own; where windows overlap, their velocities are mixed before the step is
taken, so that all follow one trajectory. Bar-Tal et al., arXiv:2302.08113, along time.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from engine.notes import Note
from engine.pipelines.wan.limits import MOST_FRAMES

LONGEST = (MOST_FRAMES - 1) // 4 + 1  # latents
OVERLAP = 5  # latents, 20 frames, at least


def remark(latents: int) -> Iterator[Note]:
    """What is to be said of a video of so many."""
    if (count := len(windows(latents))) > 1:
        text = f"more than the {MOST_FRAMES} frames that the model knows are made as {count} overlapping windows"
        yield Note("WINDOWS", text)


def windows(latents: int) -> list[slice]:
    """Where each begins and ends: as few as overlap enough, of one length, at even distances."""
    if latents <= LONGEST:
        return [slice(0, latents)]
    gaps = -(-(latents - LONGEST) // (LONGEST - OVERLAP))
    starts = [i * (latents - LONGEST) // gaps for i in range(gaps + 1)]
    return [slice(start, start + LONGEST) for start in starts]


def ramps(spans: list[slice]) -> Iterator[Tensor]:
    """Each window's share (T,) in every latent: it rises and falls over what is shared, and all shares sum to one."""
    total = torch.zeros(spans[-1].stop)
    shares = [_tent(spans, i) for i in range(len(spans))]
    for span, share in zip(spans, shares, strict=True):
        total[span] += share
    for span, share in zip(spans, shares, strict=True):
        yield share / total[span]


def _tent(spans: list[slice], i: int) -> Tensor:
    span = spans[i]
    position = torch.arange(span.start, span.stop, dtype=torch.float32) + 1
    share = torch.ones(len(position))
    if i > 0:
        shared = spans[i - 1].stop - span.start
        share = torch.minimum(share, (position - span.start) / (shared + 1))
    if i + 1 < len(spans):
        shared = span.stop - spans[i + 1].start
        share = torch.minimum(share, (span.stop + 1 - position) / (shared + 1))
    return share
