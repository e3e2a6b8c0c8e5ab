"""The video autoencoder by overlapping tiles, blended as published (upstream tiled VAE; spans are on the latent grid).

Not what the whole picture gives: the statistics of group norms and the attention are those of a tile.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engine.models.checks import Check, unchecked
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import SPATIAL, TEMPORAL

Size = tuple[int, int]  # rows, columns


def encode_tiled(
    vae: VideoVAE, x: Tensor, tile: Size, overlap: Size, slice_latents: int = 0, check: Check = unchecked
) -> Tensor:
    """`vae.encode` by tiles of so many pixels: (B, 3, T, H, W) -> float32 (B, 16, t, H / 8, W / 8), the mean."""
    height, width = x.shape[-2] // SPATIAL, x.shape[-1] // SPATIAL
    size = vae.config.latent, (x.shape[2] - 1) // TEMPORAL + 1, height, width
    y = torch.zeros(x.shape[0], *size, device=x.device)
    weights = torch.zeros(height, width, device=x.device)
    shared = _latents(tile, overlap)[1]
    for rows, columns in tile_spans((height, width), tile, overlap):
        check()
        part = vae.encode(x[..., _pixels(rows), _pixels(columns)], slice_latents, check)
        _add(y, weights, part, (rows, columns), shared)
    return y.div_(weights.clamp_(min=1e-6))


def decode_tiled(
    vae: VideoVAE, z: Tensor, tile: Size, overlap: Size, slice_latents: int = 0, check: Check = unchecked
) -> Tensor:
    """`vae.decode` by tiles of so many pixels: (B, 16, t, h, w) -> float32 (B, 3, T, 8 h, 8 w)."""
    height, width = z.shape[-2] * SPATIAL, z.shape[-1] * SPATIAL
    size = vae.config.colours, TEMPORAL * (z.shape[2] - 1) + 1, height, width
    y = torch.zeros(z.shape[0], *size, device=z.device)
    weights = torch.zeros(height, width, device=z.device)
    # Tiles that share no latent share no pixel to blend over.
    shared = tuple(n if latents else 0 for n, latents in zip(overlap, _latents(tile, overlap)[1], strict=True))
    for rows, columns in tile_spans((z.shape[-2], z.shape[-1]), tile, overlap):
        check()
        part = vae.decode(z[..., rows, columns], slice_latents, check)
        _add(y, weights, part, (_pixels(rows), _pixels(columns)), shared)
    return y.div_(weights.clamp_(min=1e-6))


def tile_spans(size: Size, tile: Size, overlap: Size) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of every tile of a grid of `size` latents; `tile` and `overlap` are in pixels."""
    (tile_rows, tile_columns), (shared_rows, shared_columns) = _latents(tile, overlap)
    for rows in _spans(size[0], tile_rows, shared_rows):
        for columns in _spans(size[1], tile_columns, shared_columns):
            yield rows, columns


def ramps(span: slice, length: int, overlap: int) -> list[float]:
    """Weights of a tile along one axis of `length`: a cosine's rise over `overlap` at each end inside the picture."""
    count = span.stop - span.start
    rise = [0.5 - 0.5 * math.cos(math.pi * step / max(overlap - 1, 1)) for step in range(min(overlap, count - 1))]
    weights = [1.0] * count
    if span.start > 0:
        weights[: len(rise)] = rise
    if span.stop < length:
        weights[count - len(rise) :] = [1 - weight for weight in rise]
    return weights


def _spans(length: int, tile: int, overlap: int) -> Iterator[slice]:
    """Each begins `tile - overlap` after the one before; what would lie within the overlap alone is left out."""
    if length <= tile:
        yield slice(0, length)
        return
    for start in range(0, length, max(tile - overlap, 1)):
        stop = min(start + tile, length)
        if start == 0 or stop - start > overlap:
            yield slice(start, stop)


def _latents(tile: Size, overlap: Size) -> tuple[Size, Size]:
    rows, columns = (max(n // SPATIAL, 1) for n in tile)
    shared_rows, shared_columns = (n // SPATIAL for n in overlap)
    return (rows, columns), (min(shared_rows, rows - 1), min(shared_columns, columns - 1))


def _pixels(span: slice) -> slice:
    return slice(span.start * SPATIAL, span.stop * SPATIAL)


def _add(y: Tensor, weights: Tensor, part: Tensor, at: tuple[slice, slice], overlap: Sequence[int]) -> None:
    """Add a tile's weighted part (B, C, T, h, w) to y and its weights to theirs, a frame at a time to save memory."""
    rows, columns = (
        torch.tensor(ramps(span, length, shared), device=y.device)
        for span, length, shared in zip(at, weights.shape, overlap, strict=True)
    )
    weight = torch.outer(rows, columns)
    weights[at] += weight
    for frame in range(y.shape[2]):
        y[:, :, frame, at[0], at[1]] += part[:, :, frame] * weight
