"""Weight files -> a module whose every tensor is accounted for. Readers know no models, models no formats."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.weights import gguf, pth, safetensors
from engine.weights.packed import PackedLinear
from engine.weights.quants import BlockType
from engine.weights.reading import Reader
from engine.weights.scaled import fold_scales
from engine.weights.stored import FP8, Stored

Arrived = Callable[[int], None]
"""Told the bytes of each tensor that is in; what it raises ends the loading."""

_SHOWN = 5  # names of each kind in a message
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_BRACE = b"{"  # after the eight bytes of a safetensors header's length, whatever those are
_LEAST = 10  # bytes, of an empty safetensors file


class CheckpointMismatch(Exception):
    """A file and the network it was meant for do not belong together: a bug or a wrong file, never the caller's."""

    def __init__(
        self, source: str, problem: str = "", *, missing: Iterable[str] = (), unexpected: Iterable[str] = ()
    ) -> None:
        self.missing, self.unexpected = tuple(sorted(missing)), tuple(sorted(unexpected))
        parts = [problem, _names("missing", self.missing), _names("unexpected", self.unexpected)]
        super().__init__(f"{source}: " + "; ".join(part for part in parts if part))


def open_weights(path: Path) -> dict[str, Stored]:
    """Named tensors of a .safetensors, .gguf or .pth, told apart by content, none of them read yet.

    A .pth that holds one tensor and no names calls it "". Raises CheckpointMismatch, OSError.
    """
    with _refused_as(path.name):
        return _open(path)


def open_all(paths: Iterable[Path]) -> dict[str, Stored]:
    """The tensors of all shards of a checkpoint, each with its scale. An index among the files is held against them.

    Raises CheckpointMismatch, OSError.
    """
    merged: dict[str, Stored] = {}
    indices = []
    for path in paths:
        if path.suffix == ".json":
            indices.append(path)
            continue
        opened = open_weights(path)
        if twice := merged.keys() & opened.keys():
            raise CheckpointMismatch(path.name, f"{min(twice)} is in another shard, too")
        merged |= opened
    for path in indices:
        _check_index(path, merged)
    with _refused_as(", ".join(sorted({stored.path.name for stored in merged.values()}))):
        return fold_scales(merged)


def read_weights(path: Path) -> dict[str, Tensor]:
    """All the file's tensors, on the CPU, as they were stored: for small files. Raises CheckpointMismatch, OSError."""
    with _refused_as(path.name):
        head = _head(path)
        if head.startswith((_ZIP, _PICKLE)) and head[8:9] != _BRACE:
            return pth.read(path)
        return {name: stored.read() for name, stored in _open(path).items()}


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor | Stored],
    source: str,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    wide: Callable[[str], bool] = lambda name: False,
    arrived: Arrived = lambda nbytes: None,
) -> None:
    """Give `model`, built on `meta`, its tensors: on `device`, numbers in `dtype`. Raises CheckpointMismatch, OSError.

    All names and shapes are compared before anything is read. Then tensors are read, a few at a time, in the order of
    the file. Weights of linear layers that are stored in fp8 or in blocks stay so, each layer becoming a PackedLinear;
    what else is stored so becomes `dtype`, or float32. Without `device` and `dtype` tensors are taken as they are; and
    so are the numbers of those whose names are `wide`. `arrived` is called in this thread with the stored bytes of each
    tensor that is in; when it raises, no other tensor is begun.
    """
    demand_match(model, weights, source)
    _pack_linears(model, weights)
    stored = [given for given in weights.values() if isinstance(given, Stored)]
    paths = {part.path for given in stored for part in (given, given.scale) if part is not None}

    @_refused_as(source)
    def fetch(item: tuple[str, Tensor | Stored]) -> int:
        name, given = item
        module, leaf = _owner(model, name)
        keep = isinstance(module, PackedLinear) and leaf == "weight"
        tensor = _read(reader, given, None if keep else _numbers(given, None if wide(name) else dtype))
        _put(module, leaf, tensor if device is None else tensor.to(device))
        if keep and isinstance(given, Stored) and given.scale is not None:
            module.scale = reader.scale(given.scale, 2)
        return given.nbytes

    with Reader(device or torch.device("cpu"), paths) as reader:
        pool = ThreadPoolExecutor(reader.threads)
        try:
            for nbytes in pool.map(fetch, sorted(weights.items(), key=_place)):
                arrived(nbytes)
        finally:
            pool.shutdown(cancel_futures=True)


def demand_match(model: nn.Module, weights: Mapping[str, Tensor | Stored], source: str) -> None:
    """Raises CheckpointMismatch unless `weights` are all of the model's tensors and no others, each of its shape."""
    wanted = model.state_dict()
    if wanted.keys() != weights.keys():
        raise CheckpointMismatch(
            source, missing=wanted.keys() - weights.keys(), unexpected=weights.keys() - wanted.keys()
        )
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if tensor.shape != weights[name].shape
    ]
    kinds = [
        f"{name} is of {str(weights[name].dtype).removeprefix('torch.')}, which is no form of weights"
        for name, tensor in wanted.items()
        if tensor.is_floating_point() and _form(weights[name]) is None and not weights[name].dtype.is_floating_point
    ]
    if shapes or kinds:
        raise CheckpointMismatch(source, "; ".join((shapes + kinds)[:_SHOWN]))


@contextmanager
def _refused_as(source: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise CheckpointMismatch(source, f"cannot be read: {error}") from error


def _check_index(path: Path, weights: Mapping[str, Stored]) -> None:
    with _refused_as(path.name):
        match json.loads(path.read_text("utf-8")):
            case {"weight_map": dict(places)}:
                missing = places.keys() - weights.keys()
            case _:
                raise ValueError("it is no index of shards")
    if missing:
        shards = ", ".join(sorted({str(places[name]) for name in missing}))
        raise CheckpointMismatch(path.name, f"tensors of {shards} are not there", missing=missing)


def _open(path: Path) -> dict[str, Stored]:
    head = _head(path)
    if head.startswith(gguf.MAGIC):
        return gguf.open_file(path)
    if head.startswith(_ZIP):
        return pth.open_file(path)
    if head[8:9] == _BRACE:
        return safetensors.open_file(path)
    raise ValueError(_what_else(head))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _what_else(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, such as an error of the place it was fetched from"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; the file that it points to was not fetched"
    if len(head) < _LEAST:
        return f"it is cut short: it has {len(head)} bytes"
    if head.startswith(_PICKLE):
        return "it is in PyTorch's format before 1.6; save it with a newer torch.save"
    return "it is neither safetensors nor GGUF nor a PyTorch checkpoint, or its beginning was never written"


def _pack_linears(model: nn.Module, weights: Mapping[str, Tensor | Stored]) -> None:
    linears = [(name, module) for name, module in model.named_modules() if name and isinstance(module, nn.Linear)]
    for name, linear in linears:
        form = _form(weights[f"{name}.weight"])
        if form is not None:
            model.set_submodule(name, PackedLinear(linear, form))


def _form(given: Tensor | Stored) -> torch.dtype | BlockType | None:
    """How it is packed; None for plain numbers."""
    if isinstance(given, Stored) and given.block is not None:
        return given.block
    return given.dtype if given.dtype in FP8 else None


def _numbers(given: Tensor | Stored, dtype: torch.dtype | None) -> torch.dtype:
    """The dtype that its numbers shall have."""
    if _form(given) is not None:
        return dtype or torch.float32
    return dtype if dtype and given.dtype.is_floating_point else given.dtype


def _place(item: tuple[str, Tensor | Stored]) -> tuple[str, int]:
    given = item[1]
    return (str(given.path), given.offset) if isinstance(given, Stored) else ("", 0)


def _read(reader: Reader, given: Tensor | Stored, dtype: torch.dtype | None) -> Tensor:
    """dtype: None for the bytes of a packed weight."""
    if isinstance(given, Stored):
        return reader.raw(given).view(torch.uint8) if dtype is None else reader.numbers(given, dtype)
    return given.view(torch.uint8) if dtype is None else given.to(dtype)


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def _put(module: nn.Module, leaf: str, tensor: Tensor) -> None:
    if isinstance(module, PackedLinear) and leaf == "weight":
        module.packed = tensor
    elif leaf in module._buffers:
        module._buffers[leaf] = tensor
    else:
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))


def _names(kind: str, names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind} {', '.join(names[:_SHOWN])}{more}" if names else ""
