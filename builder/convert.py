"""A model's network -> one file in the dtype that a GPU runs it in, tensors in the order in which it takes them.

Loading converts nothing then, reads one file from end to end, and reads half of what was published in float32. What is
packed, fp8 or blocks, is in its fastest form as published and stays so.
"""

import json
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from builder.bake.converting import FORM
from builder.bake.sole import sole
from builder.bake.weighing import digest
from engine.catalog import Model
from engine.models.seedvr2 import dit as seedvr2
from engine.models.wan import names as wan_names
from engine.models.wan.dit import WanDiT
from engine.pipelines.seedvr2.load import read_checkpoint
from engine.pipelines.wan.load import read_transformer
from engine.storage.disk import demand_room, naming_a_full_disk
from engine.storage.hooks import Progress, unseen
from engine.weights.load import demand_match, open_weights
from engine.weights.reading import Reader
from engine.weights.safetensors import DTYPES
from engine.weights.stored import FP8, Stored

ALIGNMENT = 64
DTYPE = torch.bfloat16  # that of GPUs from Ampere on
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_PROMPTS = ("positive_conditioning", "negative_conditioning")  # which Comfy-Org's files of SeedVR2 carry along


class NothingToGain(Exception):
    """The network is published in the form that loads fastest already; the message says why."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor to be written: from where, by which name, in which dtype."""

    name: str
    stored: Stored
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return self.stored.shape.numel() * self.dtype.itemsize


def convert(model: Model, paths: Mapping[str, Path], into: Path, progress: Progress = unseen) -> Path:
    """Write `into`/converted/`model.name`.safetensors from the network's files, `paths` by name; returns its path.

    The same files give the same bytes. Raises NothingToGain, CheckpointMismatch, UnknownModel, DiskFull, OSError.
    """
    path = into / "converted" / f"{model.name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    others: list[None] = []
    with sole(part, lambda: others.append(None)):
        if not (others and path.is_file()):  # else another bake has just written it
            entries = _entries(model, paths)
            try:
                _write(part, _header(model, paths, entries), entries, progress)
            except BaseException:
                part.write_bytes(b"")  # `sole` takes it away
                raise
            part.replace(path)
    return path


def _entries(model: Model, paths: Mapping[str, Path]) -> list[_Entry]:
    """In the order of the file: wider types first, so that each begins at a multiple of its size."""
    shards = [paths[file.name] for file in model.network]
    net, weights, wide, besides = _OPENERS.get(model.family, _nothing)(shards)
    demand_match(net, weights, shards[0].name)
    if any(stored.block or stored.dtype in FP8 for stored in weights.values()):
        raise NothingToGain("its weights are packed, and stay so when they are loaded")
    made = [_Entry(name, weights[name], _wanted(weights[name], wide(name))) for name in net.state_dict()]
    if len(shards) == 1 and shards[0].suffix == ".safetensors" and all(e.dtype == e.stored.dtype for e in made):
        raise NothingToGain("it is one file of the dtype that it runs in")
    made += [_Entry(name, stored, stored.dtype) for name, stored in besides.items()]
    return sorted(made, key=lambda entry: -entry.dtype.itemsize)


def _wanted(stored: Stored, wide: bool) -> torch.dtype:
    return DTYPE if stored.dtype.is_floating_point and not wide else stored.dtype


_Opened = tuple[nn.Module, Mapping[str, Stored], Callable[[str], bool], Mapping[str, Stored]]
"""A network without weights, those by its names, which of them keep their dtype, and what else its file carries."""


def _open_seedvr2(shards: list[Path]) -> _Opened:
    checkpoint = read_checkpoint(shards[0])
    leaves = {name.rpartition(".")[2]: stored for name, stored in open_weights(shards[0]).items()}
    with torch.device("meta"):
        net = seedvr2.build(checkpoint.config)
    return net, checkpoint.weights, lambda name: False, {name: leaves[name] for name in _PROMPTS if name in leaves}


def _open_wan(shards: list[Path]) -> _Opened:
    checkpoint = read_transformer({"dit": shards})
    with torch.device("meta"):
        net = WanDiT(checkpoint.config)
    return net, checkpoint.weights, wan_names.stays_wide, {}


def _nothing(shards: list[Path]) -> _Opened:
    raise NothingToGain("its files are small")


_OPENERS = {"seedvr2": _open_seedvr2, "wan": _open_wan}


def _header(model: Model, paths: Mapping[str, Path], entries: list[_Entry]) -> bytes:
    """With what the file was made from, spaces making its length a multiple of ALIGNMENT."""
    origin = {file.key: file.sha256 or digest(paths[file.name]) for file in model.network}
    table: dict[str, object] = {
        "__metadata__": {"format": "pt", "converted_from": json.dumps(origin), "converted_form": FORM}
    }
    place = 0
    for entry in entries:
        offsets = [place, place + entry.nbytes]
        table[entry.name] = {"dtype": _CODES[entry.dtype], "shape": list(entry.stored.shape), "data_offsets": offsets}
        place += entry.nbytes
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _write(part: Path, header: bytes, entries: list[_Entry], progress: Progress) -> None:
    """One tensor in memory at a time."""
    total, done = len(header) + sum(entry.nbytes for entry in entries), len(header)
    demand_room(part.parent, total)
    files = {entry.stored.path for entry in entries}
    with naming_a_full_disk(), part.open("wb") as file, Reader(torch.device("cpu"), files) as reader:
        file.write(header)
        for entry in entries:
            # What the reader need not change it maps, and mapped pages would stay the process's memory to the end.
            same = entry.dtype == entry.stored.dtype
            numbers = entry.stored.read() if same else reader.numbers(entry.stored, entry.dtype)
            file.write(numbers.flatten().view(torch.uint8).numpy().data)
            done += entry.nbytes
            progress(done, total)
        file.flush()
        os.fsync(file.fileno())
