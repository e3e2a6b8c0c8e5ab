"""Wan2.1's video autoencoder by overlapping tiles, one after the other, blended as diffusers does it.

Tiles are squares of `tile` pixels and begin every `stride` pixels, both multiples of 8. Over what it shares with the
tile above, then with the one to the left, each rises linearly from theirs. The device holds one tile's work, the host
the whole result. It is not what the whole picture gives: beyond a tile's border are zeros, and attention ends there.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from engine.models.checks import Check, unchecked
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import COLOURS, SPATIAL, TEMPORAL

Work = Callable[[slice, slice], Tensor]  # rows and columns of latents -> what comes of them, on the host


def decode_tiled(vae: WanVAE, z: Tensor, tile: int, stride: int, check: Check = unchecked) -> Iterator[Tensor]:
    """`vae.decode` by tiles, to frames on the host. The first comes when all frames of all tiles are done."""

    def work(rows: slice, columns: slice) -> Tensor:
        part = z[..., rows, columns]
        frames, height, width = TEMPORAL * (z.shape[2] - 1) + 1, part.shape[-2] * SPATIAL, part.shape[-1] * SPATIAL
        made = torch.empty(z.shape[0], COLOURS, frames, height, width)
        for at, frame in enumerate(vae.unclamped(part, check)):
            made[:, :, at] = frame
        return made

    video = _blended(work, z.shape[-2:], tile // SPATIAL, stride // SPATIAL, SPATIAL)
    for at in range(video.shape[2]):
        yield video[:, :, at : at + 1].clamp(-1, 1)


def encode_tiled(vae: WanVAE, frames: Iterable[Tensor], tile: int, stride: int, check: Check = unchecked) -> Tensor:
    """`vae.encode` by tiles. The host holds all frames, as every tile needs them."""
    held = [frame.cpu() for frame in frames]
    if not held:
        raise ValueError("no frames have no latents")

    def work(rows: slice, columns: slice) -> Tensor:
        return vae.encode((_pixels(frame, rows, columns) for frame in held), check).cpu()

    return _encoded(vae, work, held[0], tile, stride)


def encode_still_tiled(
    vae: WanVAE, picture: Tensor, frames: int, tile: int, stride: int, check: Check = unchecked
) -> Tensor:
    """`vae.encode_still` by tiles."""

    def work(rows: slice, columns: slice) -> Tensor:
        return vae.encode_still(_pixels(picture, rows, columns), frames, check).cpu()

    return _encoded(vae, work, picture, tile, stride)


def _encoded(vae: WanVAE, work: Work, frame: Tensor, tile: int, stride: int) -> Tensor:
    size = frame.shape[-2] // SPATIAL, frame.shape[-1] // SPATIAL
    return _blended(work, size, tile // SPATIAL, stride // SPATIAL, 1).to(vae.device)


def _pixels(frame: Tensor, rows: slice, columns: slice) -> Tensor:
    rows, columns = (slice(span.start * SPATIAL, span.stop * SPATIAL) for span in (rows, columns))
    return frame[..., rows, columns]


def _blended(work: Work, size: Iterable[int], tile: int, stride: int, unit: int) -> Tensor:
    """All tiles of a grid of `size` latents, each of which is `unit` x `unit` of the result (B, C, T, ...)."""
    height, width = size
    whole = torch.empty(0)
    above: dict[int, Tensor] = {}  # by column: the lower ends of the tiles of the row before
    for row in range(0, height, stride):
        left: Tensor | None = None
        for column in range(0, width, stride):
            part = work(slice(row, min(row + tile, height)), slice(column, min(column + tile, width)))
            if column in above:
                _blend(part, above[column], 3)
            if left is not None:
                _blend(part, left, 4)
            above[column], left = (_end(part, axis, (tile - stride) * unit) for axis in (3, 4))
            if not len(whole):
                whole = part.new_empty(*part.shape[:3], height * unit, width * unit)
            part = part[..., : stride * unit, : stride * unit]
            whole[..., row * unit :, column * unit :][..., : part.shape[3], : part.shape[4]] = part
    return whole


def _end(part: Tensor, axis: int, count: int) -> Tensor:
    """A copy of the last `count` or all, if fewer."""
    count = min(count, part.shape[axis])
    return part.narrow(axis, part.shape[axis] - count, count).clone()


def _blend(part: Tensor, end: Tensor, axis: int) -> None:
    """Let `part` begin as the neighbour before it ends, whatever they share."""
    count = min(part.shape[axis], end.shape[axis])
    if count:
        shape = [count if at == axis else 1 for at in range(part.ndim)]
        old, new = end.narrow(axis, end.shape[axis] - count, count), part.narrow(axis, 0, count)
        new.copy_(torch.lerp(old, new, (torch.arange(count) / count).view(shape)))
