"""Pickled PyTorch checkpoints -> named tensors. Tensors and plain containers only: no code in the file is ever run."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from engine.weights.stored import Stored

_NESTED = ("params_ema", "params", "state_dict")  # the running average of the weights is the better set
# what a damaged pickle makes its reader stumble over
_DAMAGE = (
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    LookupError,
    AssertionError,
    AttributeError,
    TypeError,
)


def read(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, which may lie beneath one of the usual keys. Raises ValueError."""
    return _load(path, "cpu")


def open_file(path: Path) -> dict[str, Stored]:
    """The same, unread, of a checkpoint in the zip format. Raises ValueError."""
    _check_records(path)
    size = path.stat().st_size
    return {name: _stored(path, size, name, tensor) for name, tensor in _load(path, "meta").items()}


def _load(path: Path, device: str) -> dict[str, Tensor]:
    try:
        # only the zip format, PyTorch's since 1.6, can be mapped
        mapped = device == "cpu" and zipfile.is_zipfile(path)
        content = torch.load(path, weights_only=True, map_location=device, mmap=mapped)
    except _DAMAGE as error:
        raise ValueError("it is not a PyTorch checkpoint of plain tensors") from error
    if isinstance(content, Tensor):
        return {"": content}
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError("it holds something else than named tensors")
    return {str(name): tensor for name, tensor in content.items()}


def _check_records(path: Path) -> None:
    """A checkpoint that was packed anew may be compressed, and then its values lie nowhere."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter of features that nobody's archive has
        raise ValueError("it is cut short or damaged: a zip archive without its list of contents") from error
    if compressed:
        raise ValueError("its values are compressed; save it with torch.save")


def _stored(path: Path, size: int, name: str, tensor: Tensor) -> Stored:
    record = tensor.untyped_storage()._checkpoint_offset  # where it lies in the file: torch.load notes it on `meta`
    assert record is not None
    offset = record + int(tensor.storage_offset()) * tensor.itemsize
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not stored row by row")
    stored = Stored(path, offset, tensor.shape, tensor.dtype)
    if offset + stored.nbytes > size:
        raise ValueError(f"it is cut short: it has {size} bytes, and {name} ends at {offset + stored.nbytes}")
    return stored
