"""Published files -> a pipeline. What a file holds is read from its names and shapes alone, whatever its layout."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from engine.errors import InvalidInput, Problem, UnknownModel
from engine.models.handles import Checkpoint
from engine.models.wan import clip_names, names, umt5_names, vae_names
from engine.models.wan.clip import CLIPConfig, CLIPVision
from engine.models.wan.config import DiTConfig
from engine.models.wan.dit import WanDiT
from engine.models.wan.umt5 import UMT5
from engine.models.wan.umt5_names import TextCheckpoint
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import WanVAEConfig
from engine.pipelines.wan.negative import OWN_NEGATIVE, default_negative
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.options import LoraFile
from engine.pipelines.wan.pipeline import Wan
from engine.pipelines.wan.prompts import Tokenizer
from engine.weights.load import Arrived, CheckpointMismatch, demand_match, load_weights, open_all, open_weights
from engine.weights.lora import Delta, LoraMismatch, apply_loras, read_lora
from engine.weights.packed import PackedLinear, unpack_once
from engine.weights.stored import Stored

HEADROOM = 2 * 2**30  # bytes of the device that stay free for work when networks are loaded
Files = Mapping[str, Sequence[Path]]
"""A model's files on this machine, by role: dit, vae, text_encoder; image_encoder for i2v; and, where they are,
tokenizer and negative_prompt."""

C = TypeVar("C")
N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")


@dataclass(slots=True)
class Room:
    """Where the next network is put: on the device while it has room, else on the host, from where it comes in turn."""

    device: torch.device
    free_bytes: int

    def take(self, needed: int) -> torch.device:
        """The place for a network of so many bytes, which is then taken."""
        if self.device.type == "cpu" or needed > self.free_bytes - HEADROOM:
            return torch.device("cpu")
        self.free_bytes -= needed
        return self.device


def load_wan(
    files: Files,
    *,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    free_bytes: int,
    fp8_matmul: bool = False,
    arrived: Arrived = lambda nbytes: None,
) -> Wan:
    """All networks, ready to run, as many on the device as fit there. The transformer comes first.

    fp8_matmul: multiply the transformer's fp8 weights in fp8 where the device can, which is an approximation.
    Raises CheckpointMismatch, OSError, UnknownModel for relatives of Wan2.1 that this engine does not run, and what
    `arrived` raises.
    """
    room = Room(device, free_bytes)
    checkpoint = read_transformer(files)
    _demand_task(checkpoint.config, files)
    transformer = Transformer(files["dit"][0].name, checkpoint, device, dtype, fp8_matmul)
    dit = transformer.with_loras(())(room.take(network_bytes(transformer.weights, dtype, names.stays_wide)), arrived)
    vae = _autoencoder(files, room, dtype, arrived)
    image = _image_encoder(files, room, dtype, arrived) if dit.config.image_dim is not None else None
    text, tokenizer = _text_encoder(files, room, dtype, arrived)
    negative = default_negative(files.get("negative_prompt", ()), dit.config.task)
    networks = Networks(text, image, dit, vae, device, dtype)
    return Wan(networks, tokenizer, name, negative=negative or OWN_NEGATIVE, build=transformer.with_loras)


def check_wan(files: Files) -> None:
    """Demand of all networks what `load_wan` does, as far as names and shapes tell. Raises what that raises."""
    checkpoint = read_transformer(files)
    _demand_task(checkpoint.config, files)
    _bare(WanDiT, checkpoint, files["dit"][0].name)
    _bare(WanVAE, _read_autoencoder(files), files["vae"][0].name)
    if checkpoint.config.image_dim is not None:
        _bare(CLIPVision, _read_image_encoder(files), files["image_encoder"][0].name)
    text = _read_text_encoder(files)
    _bare(UMT5, text, files["text_encoder"][0].name)
    _tokenizer(text, files)


def read_transformer(files: Files) -> Checkpoint[DiTConfig, Stored]:
    """What the transformer's files say of themselves, no weights read. Raises CheckpointMismatch, UnknownModel."""
    try:
        return _parsed(files, "dit", names.parse, "transformer of Wan2.1")
    except names.Unsupported as error:
        raise UnknownModel(f"{files['dit'][0].name} cannot be run: {error}", field="model") from error


def _demand_task(config: DiTConfig, files: Files) -> None:
    """Raises CheckpointMismatch for a network of the other task than the model's, which its other files tell."""
    source = files["dit"][0].name
    if config.task == "i2v" and not files.get("image_encoder"):
        raise CheckpointMismatch(source, "it is a network for image to video, which needs an image encoder beside it")
    if config.task == "t2v" and files.get("image_encoder"):
        raise CheckpointMismatch(source, "it is a network for text to video, yet an image encoder lies beside it")


def network_bytes(
    weights: Mapping[str, Stored], dtype: torch.dtype, wide: Callable[[str], bool] = lambda name: False
) -> int:
    """What a network takes in memory: what is packed stays so, and what is `wide`; other numbers become `dtype`."""

    def one(name: str, stored: Stored) -> int:
        if stored.block is not None or stored.dtype.itemsize == 1:
            return stored.nbytes
        return stored.shape.numel() * (stored.dtype if wide(name) else dtype).itemsize

    return sum(one(name, stored) for name, stored in weights.items())


@dataclass(frozen=True, slots=True)
class Transformer:
    """A transformer's file, from which the network is loaded as often as its LoRAs change, to work on `device`."""

    source: str
    checkpoint: Checkpoint[DiTConfig, Stored]
    device: torch.device
    dtype: torch.dtype
    fp8_matmul: bool

    @property
    def weights(self) -> Mapping[str, Stored]:
        return self.checkpoint.weights

    def with_loras(self, loras: Sequence[LoraFile]) -> partial[WanDiT]:
        """What loads the network, with these merged into it, at some place. Raises InvalidInput, CheckpointMismatch.

        It takes the place and an `Arrived`.
        """
        with torch.device("meta"):
            shapes = {key: tensor.shape for key, tensor in WanDiT(self.checkpoint.config).state_dict().items()}
        return partial(self._loaded, [(_changes(lora, shapes), lora.strength) for lora in loras])

    @torch.inference_mode(False)
    def _loaded(
        self,
        changes: Sequence[tuple[Mapping[str, Delta], float]],
        place: torch.device,
        arrived: Arrived,
    ) -> WanDiT:
        net, dtype = _bare(WanDiT, self.checkpoint, self.source), self.dtype
        load_weights(net, self.weights, self.source, device=place, dtype=dtype, wide=names.stays_wide, arrived=arrived)
        apply_loras(net, changes)
        net.eval().requires_grad_(False).prepare(self.device)
        for block in net.blocks:
            unpack_once(block)
            for layer in block.modules():
                if isinstance(layer, PackedLinear):
                    layer.fp8_matmul = self.fp8_matmul
        return net


def _changes(lora: LoraFile, shapes: Mapping[str, torch.Size]) -> dict[str, Delta]:
    """What the LoRA adds to a network with parameters of these shapes. Raises InvalidInput where it is for another."""
    try:
        return read_lora(open_weights(lora.path), shapes, names.original)
    except LoraMismatch as error:
        raise InvalidInput([Problem("loras", f"`{lora.name}` does not fit this model: {error}")]) from error


def _autoencoder(files: Files, room: Room, dtype: torch.dtype, arrived: Arrived) -> WanVAE:
    net = _loaded(WanVAE, _read_autoencoder(files), files["vae"][0].name, room, dtype, arrived)
    net.prepare()
    return net


def _read_autoencoder(files: Files) -> Checkpoint[WanVAEConfig, Stored]:
    return _parsed(files, "vae", vae_names.parse, "autoencoder of Wan2.1")


def _image_encoder(files: Files, room: Room, dtype: torch.dtype, arrived: Arrived) -> CLIPVision:
    return _loaded(CLIPVision, _read_image_encoder(files), files["image_encoder"][0].name, room, dtype, arrived)


def _read_image_encoder(files: Files) -> Checkpoint[CLIPConfig, Stored]:
    return _parsed(files, "image_encoder", clip_names.parse, "CLIP vision transformer")


def _text_encoder(files: Files, room: Room, dtype: torch.dtype, arrived: Arrived) -> tuple[UMT5, Tokenizer]:
    """In bfloat16 where half precision is asked for, for its values outgrow float16."""
    checkpoint = _read_text_encoder(files)
    wide = dtype if dtype == torch.float32 else torch.bfloat16
    net = _loaded(UMT5, checkpoint, files["text_encoder"][0].name, room, wide, arrived)
    return net, _tokenizer(checkpoint, files)


def _read_text_encoder(files: Files) -> TextCheckpoint[Stored]:
    return _parsed(files, "text_encoder", umt5_names.parse, "UMT5 encoder")


def _tokenizer(checkpoint: TextCheckpoint[Stored], files: Files) -> Tokenizer:
    source = files["text_encoder"][0].name
    if checkpoint.spiece is not None:
        tokenizer = Tokenizer(checkpoint.spiece.read().numpy().tobytes(), source)
    elif files.get("tokenizer"):
        tokenizer = Tokenizer.of(files["tokenizer"][0])
    else:
        raise CheckpointMismatch(source, "it carries no tokenizer and none lies beside it")
    if tokenizer.size > checkpoint.config.vocab:
        raise CheckpointMismatch(
            source, f"its tokenizer has {tokenizer.size} tokens, it knows {checkpoint.config.vocab}"
        )
    return tokenizer


def _parsed(files: Files, role: str, parse: Callable[[Mapping[str, Stored]], T | None], what: str) -> T:
    checkpoint = parse(open_all(files[role]))
    if checkpoint is None:
        raise CheckpointMismatch(files[role][0].name, f"it is no {what}")
    return checkpoint


def _loaded(
    kind: Callable[[C], N],
    checkpoint: Checkpoint[C, Stored],
    source: str,
    room: Room,
    dtype: torch.dtype,
    arrived: Arrived,
) -> N:
    net, weights = _bare(kind, checkpoint, source), checkpoint.weights
    place = room.take(network_bytes(weights, dtype))
    load_weights(net, weights, source, device=place, dtype=dtype, arrived=arrived)
    return net.eval().requires_grad_(False)


def _bare(kind: Callable[[C], N], checkpoint: Checkpoint[C, Stored], source: str) -> N:
    """The network on `meta`, which the checkpoint fits."""
    with torch.device("meta"):
        net = kind(checkpoint.config)
    demand_match(net, checkpoint.weights, source)
    return net
