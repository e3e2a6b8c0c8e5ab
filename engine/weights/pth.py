"""Pickled PyTorch checkpoints -> named tensors. Tensors and plain containers only: no code in the file is ever run."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_NESTED = ("params_ema", "params", "state_dict")  # the running average of the weights is the better set


def read(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, which may lie beneath one of the usual keys. Raises ValueError."""
    try:  # only the zip format, PyTorch's since 1.6, can be mapped
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError("it is not a PyTorch checkpoint of plain tensors") from error
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError("it holds something else than named tensors")
    return {str(name): tensor for name, tensor in content.items()}
