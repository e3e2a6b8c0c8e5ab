"""What a job would take, from a checkpoint's header or its architecture alone: no weights are read."""

from functools import cache
from pathlib import Path

import torch

from engine.frames import Raster
from engine.models.seedvr2.config import DIT_3B, DIT_7B, DiTConfig
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAE
from engine.pipelines.devices import operations_per_second
from engine.pipelines.plans import Ran
from engine.pipelines.protocol import Estimate
from engine.pipelines.seedvr2.load import read_checkpoint, remarks
from engine.pipelines.seedvr2.memory import Footprint, matrix_parameters
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.plan import begin, ladder, overridden

# Multiply-adds of the published autoencoder as we run it, both ways, for each pixel of the result.
FIRST_FRAME, LATER_FRAME = 6.1e6, 9.8e6
EFFICIENCY = 0.5  # of the rate of a large matrix product that a whole job reaches


def estimate(
    dit: Path | None,
    architecture: str | None,
    *,
    dit_weights: int,
    source: Raster,
    target: Raster,
    options: SeedVR2Options,
    device: torch.device,
    dtype: torch.dtype,
) -> Estimate:
    """The plan a call would begin with, and what it takes. Seconds are a guess from the device's rate of arithmetic.

    dit_weights: bytes of the transformer in memory. Raises CheckpointMismatch when `dit` is another network's.
    """
    checkpoint = read_checkpoint(dit) if dit else None
    config = checkpoint.config if checkpoint else DIT_7B if architecture == "7b" else DIT_3B
    footprint = Footprint.of(
        config,
        VAE,
        source,
        target,
        options,
        dtype=dtype,
        device=device,
        dit_weights=dit_weights,
        vae_weights=autoencoder_bytes(dtype),
    )
    plan = begin(ladder(footprint, options), options)
    frames = plan.batch if options.temporal else 1
    work = multiply_adds(config, frames, footprint.height, footprint.width)
    seconds = 2 * work / (frames - plan.overlap * (frames > 1)) / (EFFICIENCY * operations_per_second(device, dtype))
    about = remarks(checkpoint) if checkpoint else []
    return Estimate(Ran(plan, attempts=0), plan.bytes, seconds, (*about, *overridden(plan, options)))


@cache
def autoencoder_bytes(dtype: torch.dtype) -> int:
    """The published autoencoder in memory, once prepared, which takes more than its file."""
    with torch.device("meta"):
        net = VideoVAE(VAE).to(dtype).requires_grad_(False)
        net.prepare()
    return sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))


def multiply_adds(config: DiTConfig, frames: int, height: int, width: int) -> float:
    """Of one batch through both networks; attention, which is small beside the matrices, is left out."""
    tokens = ((frames - 1) // 4 + 1) * (height // 16) * (width // 16)
    per_token = matrix_parameters(config) * config.layers / (config.layers + config.separate)
    return height * width * (FIRST_FRAME + (frames - 1) * LATER_FRAME) + tokens * per_token
