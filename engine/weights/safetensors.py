"""safetensors files -> named tensors, mapped from the file rather than read."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file, on the CPU, in the dtype it was stored in."""
    tensors: dict[str, Tensor] = load_file(path, device="cpu")
    return tensors
