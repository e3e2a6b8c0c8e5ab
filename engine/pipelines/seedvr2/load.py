"""Published files -> a pipeline. Which network a file holds is read from its names and shapes alone."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.models.seedvr2 import vae_names
from engine.models.seedvr2.dit import DiT3B, DiT7B, build
from engine.models.seedvr2.names import Checkpoint, parse
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAE
from engine.notes import Note
from engine.pipelines.seedvr2.networks import Networks
from engine.pipelines.seedvr2.pipeline import SeedVR2
from engine.weights.load import Arrived, CheckpointMismatch, demand_match, load_weights, open_weights, read_weights
from engine.weights.packed import unpack_once
from engine.weights.stored import Stored

POOR_IN_FP8 = Note(
    "LOW_PRECISION", "the 7B in plain fp8 is measurably worse than in Q4_K_M or fp16; a `mixed` file keeps more of it"
)

# What tells the sizes. A file that has some of these and lacks others is a damaged transformer, and is told what it
# lacks; one that has none is another network.
TELLING = {"vid_in.proj.weight", "txt_in.weight", "blocks.0.mlp.vid.proj_in.weight"}


def load_seedvr2(
    dit: Path,
    vae: Path,
    positive: Path | None,
    *,
    device: torch.device,
    dtype: torch.dtype,
    arrived: Arrived = lambda nbytes: None,
) -> SeedVR2:
    """Both networks on the device, ready to run. `positive`: the prompt's embedding, for files that carry none.

    Raises CheckpointMismatch, OSError, and what `arrived` raises, which is told the bytes of each tensor that is in.
    """
    checkpoint = read_checkpoint(dit)
    text = _text(checkpoint, positive, dit)
    transformer = _transformer(checkpoint, text, dit, device, dtype, arrived)
    networks = Networks(transformer, _autoencoder(vae, device, dtype, arrived), device, dtype)
    return SeedVR2(networks, dit.stem, remarks(checkpoint))


def check_seedvr2(dit: Path, vae: Path, positive: Path | None) -> None:
    """Demand of the files what `load_seedvr2` does, as far as names and shapes tell. Raises what that raises."""
    checkpoint = read_checkpoint(dit)
    _text(checkpoint, positive, dit)
    _bare_transformer(checkpoint, dit)
    _bare_autoencoder(vae)


def read_checkpoint(path: Path) -> Checkpoint[Stored]:
    """What a transformer's file says of itself, no weights read. Raises CheckpointMismatch, OSError."""
    weights = open_weights(path)
    checkpoint = parse(weights)
    if checkpoint is None:
        missing = TELLING - weights.keys()
        raise CheckpointMismatch(
            path.name, "it is no SeedVR2 transformer", missing=missing if missing < TELLING else ()
        )
    return checkpoint


def remarks(checkpoint: Checkpoint[Stored]) -> list[Note]:
    """What whoever uses the checkpoint should know of it."""
    all_fp8 = all(stored.dtype == torch.float8_e4m3fn for stored in checkpoint.weights.values())
    return [POOR_IN_FP8] if checkpoint.config.kind == "7b" and all_fp8 else []


def _transformer(
    checkpoint: Checkpoint[Stored],
    text: Tensor,
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    arrived: Arrived,
) -> DiT3B | DiT7B:
    net = _bare_transformer(checkpoint, path)
    load_weights(net, checkpoint.weights, path.name, device=device, dtype=dtype, arrived=arrived)
    net.eval().requires_grad_(False).prepare(text.to(device))
    for block in net.layers:
        unpack_once(block)
    return net


def _bare_transformer(checkpoint: Checkpoint[Stored], path: Path) -> DiT3B | DiT7B:
    """The network on `meta`, which the checkpoint fits."""
    with torch.device("meta"):
        net = build(checkpoint.config)
    demand_match(net, checkpoint.weights, path.name)
    return net


def _autoencoder(path: Path, device: torch.device, dtype: torch.dtype, arrived: Arrived) -> VideoVAE:
    net, weights = _bare_autoencoder(path)
    load_weights(net, weights, path.name, device=device, dtype=dtype, arrived=arrived)
    net.eval().requires_grad_(False).prepare()
    return net


def _bare_autoencoder(path: Path) -> tuple[VideoVAE, Mapping[str, Stored]]:
    """The network on `meta`, and weights that are all its own."""
    weights = vae_names.rename(open_weights(path))
    config = vae_names.recognise(weights)
    with torch.device("meta"):
        net = VideoVAE(config or VAE)
    if net.state_dict().keys().isdisjoint(weights):
        raise CheckpointMismatch(path.name, "it is no autoencoder of SeedVR2")
    demand_match(net, weights, path.name)  # and tell what differs from the published one
    return net, weights


def _text(checkpoint: Checkpoint[Stored], positive: Path | None, dit: Path) -> Tensor:
    """The prompt's embedding (L, text_dim): the file's own, else the one published beside it."""
    if checkpoint.positive is not None:
        return checkpoint.positive.read()
    if positive is None:
        raise CheckpointMismatch(dit.name, "it carries no text embedding and none lies beside it")
    tensors = list(read_weights(positive).values())
    if len(tensors) != 1 or tensors[0].shape[1:] != (checkpoint.config.text_dim,):
        raise CheckpointMismatch(positive.name, f"it is no text embedding of width {checkpoint.config.text_dim}")
    return tensors[0]
