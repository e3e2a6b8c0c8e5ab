"""The memory of restoring one batch, network by network, by arithmetic alone.

What each network takes was fitted to the bytes of its live tensors at full size; see the functions it comes from.
"""

from dataclasses import dataclass
from typing import Self

import torch

from engine.frames import Raster
from engine.models.seedvr2.config import DiTConfig
from engine.models.seedvr2.footprint import CHUNK_TOKENS, CHUNK_TOKENS_CPU, activation_bytes
from engine.models.seedvr2.vae_config import VAEConfig, decode_bytes, encode_bytes
from engine.pipelines.color import color_bytes
from engine.pipelines.seedvr2.options import SeedVR2Options

MULTIPLE = 16  # of pixels: the autoencoder reduces by 8, the transformer takes 2 x 2
FLOAT = 4
SLACK = 1.15  # what an allocator cannot give back, and what convolutions take to work in


@dataclass(frozen=True, slots=True)
class Footprint:
    """A job's sizes. height, width: of the result, padded as the networks want it. channels: 3, or 4 with alpha.

    itemsize: bytes of a number in the networks' arithmetic; residual, of one in the transformer's streams. dit_weights,
    vae_weights: bytes.
    """

    dit: DiTConfig
    vae: VAEConfig
    height: int
    width: int
    source_pixels: int
    channels: int
    itemsize: int
    residual: int
    color: str
    dit_weights: int
    vae_weights: int
    on_gpu: bool

    @classmethod
    def of(
        cls,
        dit: DiTConfig,
        vae: VAEConfig,
        source: Raster,
        target: Raster,
        options: SeedVR2Options,
        *,
        dtype: torch.dtype,
        device: torch.device,
        dit_weights: int,
        vae_weights: int,
    ) -> Self:
        return cls(
            dit=dit,
            vae=vae,
            height=-(-target.height // MULTIPLE) * MULTIPLE,
            width=-(-target.width // MULTIPLE) * MULTIPLE,
            source_pixels=source.width * source.height,
            channels=4 if source.pixel.alpha and target.pixel.alpha else 3,
            itemsize=dtype.itemsize,
            residual=FLOAT if dtype == torch.float16 else dtype.itemsize,
            color=options.color_correction,
            dit_weights=dit_weights,
            vae_weights=vae_weights,
            on_gpu=device.type == "cuda",
        )

    def peak(self, frames: int, clips: int, *, pending: bool, slice_latents: int, tile: int, offload: bool) -> int:
        """Bytes beyond the resident weights while `clips` of `frames` each are restored together.

        pending: whether the batch before waits meanwhile for its last frames to be blended. offload: each network is
        away while the other works, and both are while colours are corrected.
        """
        result = 3 * frames * clips * self.height * self.width
        source = self.channels * frames * clips * self.source_pixels * FLOAT
        rows, columns = (min(tile or n, n) for n in (self.height, self.width))
        latents = (frames - 1) // 4 + 1
        gathered = result * FLOAT if tile else 0
        encode = encode_bytes(self.vae, frames, rows, columns, slice_latents, self.itemsize, clips)
        decode = decode_bytes(self.vae, frames, rows, columns, slice_latents, self.itemsize, clips) + gathered
        dit = self._transformer(latents, clips)
        colors = color_bytes(self.color, frames * clips, self.height, self.width, on_cpu=not self.on_gpu)
        colors += result * FLOAT
        if offload:
            decode, dit, colors = decode - self.dit_weights, dit - self.vae_weights, colors - self.dit_weights
            encode -= self.dit_weights
        prepared = source + result * (FLOAT + self.itemsize)
        waiting = result * self.itemsize if pending else 0
        return int(SLACK * (waiting + max(encode + prepared, dit, decode, colors + source + waiting, 0)))

    def _transformer(self, latents: int, clips: int) -> int:
        """One pass, a layer's unpacked weights included."""
        chunk = CHUNK_TOKENS if self.on_gpu else CHUNK_TOKENS_CPU
        rows, columns = self.height // 8, self.width // 8
        inside = activation_bytes(self.dit, latents, rows, columns, clips, self.itemsize, self.residual, chunk)
        return inside + matrix_parameters(self.dit) // self.dit.layers * self.itemsize


def matrix_parameters(dit: DiTConfig) -> int:
    """Weights of the layers' matrices, which are all but a few."""
    one_stream = 4 * dit.dim**2 + (3 if dit.kind == "3b" else 2) * dit.dim * dit.hidden
    return one_stream * (dit.layers + dit.separate)
