"""safetensors files -> stored tensors: a length, a JSON of names, shapes and places, then the values.

Format: huggingface/safetensors README.
"""

import json
import struct
from pathlib import Path
from typing import Any

import torch

from engine.weights.stored import Stored, as_shape

LONGEST_HEADER = 100_000_000
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def open_file(path: Path) -> dict[str, Stored]:
    """Every tensor of the file. Raises ValueError where it is damaged, cut short, or longer than it says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, LONGEST_HEADER):
            raise ValueError(f"its header of {length} bytes is cut short: the file has {size}")
        header = _header(file.read(length))
    start = 8 + length
    tensors = {name: _stored(path, name, entry, start) for name, entry in header.items() if name != "__metadata__"}
    _check_places(tensors, start, size)
    return tensors


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        raise ValueError(f"its header is damaged: {error}") from error
    assert isinstance(header, dict)  # it begins with a brace
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name comes twice")
    return names


def _stored(path: Path, name: str, entry: Any, start: int) -> Stored:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            if dtype not in DTYPES:
                raise ValueError(f"{name} is {dtype}, which this engine does not read")
            stored = Stored(path, start + begin, as_shape(shape), DTYPES[dtype])
        case _:
            raise ValueError(f"its header is damaged at {name}")
    if stored.nbytes != end - begin:
        raise ValueError(f"{name} has {end - begin} bytes where {dtype} {shape} takes {stored.nbytes}")
    return stored


def _check_places(tensors: dict[str, Stored], start: int, size: int) -> None:
    """Raise ValueError unless the tensors fill the file, one after the other."""
    place = start
    for name, stored in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if stored.offset != place:
            raise ValueError(f"its header is damaged: {name} does not begin where the tensor before it ends")
        place += stored.nbytes
        if place > size:
            raise ValueError(f"it is cut short: it has {size} bytes, and {name} ends at {place}")
    if place != size:
        raise ValueError(f"it has {size - start} bytes of values where its header speaks of {place - start}")
