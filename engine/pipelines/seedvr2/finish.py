"""From what the networks made to the target's frames: colours, strength, alpha, codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.frames import Frame, Raster
from engine.pipelines.alpha import enlarge_alpha
from engine.pipelines.color import correct
from engine.pipelines.frames import from_rgb, resize, to_rgb
from engine.pipelines.protocol import Watch
from engine.pipelines.seedvr2.options import SeedVR2Options


@dataclass(frozen=True, slots=True)
class Job:
    """What stays the same over a stream."""

    source: Raster
    target: Raster
    options: SeedVR2Options
    watch: Watch

    @property
    def size(self) -> tuple[int, int]:
        return self.target.height, self.target.width

    @property
    def prepended(self) -> int:
        """Frames put before the first, which are not in the result."""
        return self.options.prepend_frames if self.options.temporal else 0

    @property
    def alpha(self) -> bool:
        return self.source.pixel.alpha and self.target.pixel.alpha


def source_rgb(frames: Sequence[Frame], job: Job, device: torch.device) -> Tensor:
    """(T, 3|4, h, w) in [0, 1], float32. Without alpha in the target, a source with alpha is laid on black."""
    rgb = to_rgb(frames, job.source, device, torch.float32)
    return rgb if rgb.shape[1] == 3 or job.alpha else rgb[:, :3] * rgb[:, 3:]


def finished(frames: Sequence[Frame], y: Tensor, job: Job) -> list[Frame]:
    """Frames of the target from y (T, 3, H, W), nominally in [-1, 1], where y is. Pictures know nothing of others."""
    if job.options.temporal:
        return _finished(frames, y, job)
    return [made for n, frame in enumerate(frames) for made in _finished([frame], y[n : n + 1], job)]


def _finished(frames: Sequence[Frame], y: Tensor, job: Job) -> list[Frame]:
    rgb = source_rgb(frames, job, y.device)
    plain = resize(rgb[:, :3], *job.size).clamp(0, 1)
    out = restored(y, plain, job.options)
    if rgb.shape[1] == 4:
        alpha = enlarge_alpha(rgb[:, 3:], y.float())
        if job.options.strength < 1:
            alpha = torch.lerp(resize(rgb[:, 3:], *job.size).clamp(0, 1), alpha, job.options.strength)
        out = torch.cat((out, alpha), dim=1)
    return from_rgb(out, frames, job.target)


def restored(y: Tensor, plain: Tensor, options: SeedVR2Options) -> Tensor:
    """(T, 3, H, W) in [0, 1]: y with the colours of `plain`, the resized source in [0, 1], and mixed with it."""
    out = correct(y, plain * 2 - 1, options.color_correction).clamp(-1, 1).add_(1).div_(2)
    return out if options.strength == 1 else torch.lerp(plain, out, options.strength)
