"""GGUF files -> stored tensors: metadata, a list of names, shapes, types and places, then the values.

Format: ggml's docs/gguf.md, versions 2 and 3, little-endian. Up to five dimensions are taken, because the published
files of video models have them. A reader of our own, because the published one takes a tenth of a second to import and
reads what lies beyond the end of a file that is cut short as a shorter tensor.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from engine.weights.quants import BLOCK_TYPES
from engine.weights.stored import Stored, as_shape

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 5
MOST_ENTRIES = 2**26  # of a list or letters of a text; tokenizers have some 2**18
ALIGNMENT = 32
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

_PLAIN = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
# fmt: off
_NAMES = {  # of ggml.h
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}
# fmt: on


@dataclass(slots=True)
class _Header:
    """Reads the head of a file piece by piece and never past its end."""

    file: BinaryIO
    left: int

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("its header is cut short")
        self.left -= count
        return self.file.read(count)

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.counted(self.number("<Q"))).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number("<I"), self.number("<Q")
            return [self.value(inner) for _ in range(self.counted(count))]
        if kind not in _SCALARS:
            raise ValueError(f"its header is damaged: there is no type {kind} of metadata")
        return self.number(_SCALARS[kind])

    def counted(self, count: int) -> int:
        """A number of things of a byte or more each. Raises ValueError where so many cannot follow, or never would."""
        if count > min(self.left, MOST_ENTRIES):
            raise ValueError(f"its header is cut short or damaged: it speaks of {count} entries")
        return count


def open_file(path: Path) -> dict[str, Stored]:
    """Every tensor of the file. Raises ValueError where it is damaged, cut short, or of a type we do not read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _Header(file, size)
        header.take(len(MAGIC))
        if (version := header.number("<I")) not in VERSIONS:
            raise ValueError(f"it is GGUF of version {version}; read are {', '.join(map(str, VERSIONS))}")
        tensors, fields = header.counted(header.number("<Q")), header.counted(header.number("<Q"))
        metadata = {header.text(): header.value(header.number("<I")) for _ in range(fields)}
        infos = [_info(header) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError("its header is damaged: the alignment is no number of bytes")
    start = -(-(size - header.left) // alignment) * alignment
    opened: dict[str, Stored] = {}
    for info in infos:
        if info.name in opened:
            raise ValueError(f"its header is damaged: {info.name} comes twice")
        opened[info.name] = _stored(path, info, start, metadata.get(ORIGINAL_SHAPE + info.name))
        end = opened[info.name].offset + opened[info.name].nbytes
        if end > size:
            raise ValueError(f"it is cut short: it has {size} bytes, and {info.name} ends at {end}")
    return opened


@dataclass(frozen=True, slots=True)
class _Info:
    name: str
    shape: torch.Size  # slowest dimension first, as torch has it
    kind: str
    offset: int


def _info(header: _Header) -> _Info:
    name, dimensions = header.text(), header.number("<I")
    if dimensions > MOST_DIMENSIONS:
        raise ValueError(f"its header is damaged: {name} has {dimensions} dimensions")
    shape = as_shape([header.number("<Q") for _ in range(dimensions)][::-1])
    kind = header.number("<I")
    return _Info(name, shape, _NAMES.get(kind, f"number {kind}"), header.number("<Q"))


def _stored(path: Path, info: _Info, start: int, original: Any) -> Stored:
    """original: the shape that the tensor had before its writer folded it, where it noted one."""
    shape = as_shape(original) if isinstance(original, list) else info.shape
    if shape.numel() != info.shape.numel():
        raise ValueError(
            f"its header is damaged: {info.name} is {tuple(info.shape)}, which cannot become {tuple(shape)}"
        )
    if info.kind in _PLAIN:
        return Stored(path, start + info.offset, shape, _PLAIN[info.kind])
    block = BLOCK_TYPES.get(info.kind)
    if block is None:
        read = ", ".join((*BLOCK_TYPES, *_PLAIN))
        raise ValueError(
            f"{info.name} is of the GGUF type {info.kind}, which this engine does not read; read are {read}"
        )
    if not info.shape or info.shape[-1] % block.elements:
        raise ValueError(f"its header is damaged: {info.name}, {tuple(info.shape)}, is no rows of {block.name} blocks")
    return Stored(path, start + info.offset, shape, torch.uint8, block)
