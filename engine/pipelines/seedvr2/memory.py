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
from engine.pipelines.seedvr2.preparation import MULTIPLE

FLOAT = 4
CODES_GPU, CODES_CPU = 4.3, 2.5  # float32 copies of the result while it becomes codes: whole, or by bands
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
        away while the other works, and the transformer while colours are corrected.
        """
        result = 3 * frames * clips * self.height * self.width
        source = self.channels * frames * clips * self.source_pixels * FLOAT
        rows, columns = (min(tile or n, n) for n in (self.height, self.width))
        y = result * (FLOAT if tile else self.itemsize)  # tiles are gathered in float32
        encode = encode_bytes(self.vae, frames, rows, columns, slice_latents, self.itemsize, clips)
        encode += source + result * (FLOAT + self.itemsize)
        decode = decode_bytes(self.vae, frames, rows, columns, slice_latents, self.itemsize, clips) + y * bool(tile)
        dit = self._transformer((frames - 1) // 4 + 1, clips)
        finish = y + source + self._colors(frames if clips == 1 else 1)
        if offload:
            encode, decode, finish = (n - self.dit_weights for n in (encode, decode, finish))
            dit -= self.vae_weights
        return int(SLACK * ((y if pending else 0) + max(encode, dit, decode, finish, 0)))

    def _colors(self, frames: int) -> int:
        """From decoded frames to codes: the source resized, once more in [-1, 1], the correction; or the codes."""
        result = 3 * frames * self.height * self.width * FLOAT
        correction = color_bytes(self.color, frames, self.height, self.width, on_cpu=not self.on_gpu)
        return max(2 * result + correction, int((CODES_GPU if self.on_gpu else CODES_CPU) * result))

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
