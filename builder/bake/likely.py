"""Whether a file of unknown digest can be the weights that it is taken for: what it says of itself, and its size."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from engine.amounts import size

LARGEST_HEADER = 100_000_000  # bytes; safetensors itself takes no more
TOLERANCE = 0.25  # of an estimate: block formats are mixed in several ways, which differ by a fifth


def unlikely(path: Path, name: str, estimate: int | None) -> str | None:
    """What speaks against a file that is to be called `name`; None where nothing does.

    estimate: of the bytes that it has, where there is one.
    """
    there = path.stat().st_size
    if estimate is not None and abs(there - estimate) > TOLERANCE * estimate:
        return f"has {size(there)} where about {size(estimate)} are expected"
    with path.open("rb") as file:
        head = file.read(8)
        match Path(name).suffix:
            case ".safetensors":
                good = len(head) == 8 and _whole(struct.unpack("<Q", head)[0], file.read, there)
            case ".gguf":
                good = head.startswith(b"GGUF")
            case ".pth" | ".pt":
                good = zipfile.is_zipfile(path) or head.startswith(b"\x80")  # the latter before torch 1.6
            case _:
                good = True
    return None if good else f"is no whole {Path(name).suffix} file (it begins with {head!r})"


def _whole(length: int, read: Callable[[int], bytes], there: int) -> bool:
    """True where a header of that length describes as many bytes as there are."""
    if length > min(there, LARGEST_HEADER):
        return False
    try:
        header = json.loads(read(length))
        ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    return 8 + length + max(ends, default=0) == there
