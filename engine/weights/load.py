"""Weight files -> a module whose every tensor is accounted for. Readers know no models, models no formats."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from engine.weights import pth, safetensors

_SHOWN = 5  # names of each kind in a message


class CheckpointMismatch(Exception):
    """A file and the network it was meant for do not belong together: a bug or a wrong file, never the caller's."""

    def __init__(
        self, source: str, problem: str = "", *, missing: Iterable[str] = (), unexpected: Iterable[str] = ()
    ) -> None:
        self.missing, self.unexpected = tuple(sorted(missing)), tuple(sorted(unexpected))
        parts = [problem, _names("missing", self.missing), _names("unexpected", self.unexpected)]
        super().__init__(f"{source}: " + "; ".join(part for part in parts if part))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors or a .pth, told apart by content. Raises CheckpointMismatch, OSError."""
    try:
        return pth.read(path) if _is_pickled(path) else safetensors.read(path)
    except (ValueError, SafetensorError) as error:
        raise CheckpointMismatch(path.name, f"cannot be read: {error}") from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Give `model`, built on `meta`, its tensors without a copy. Raises CheckpointMismatch."""
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
    if shapes:
        raise CheckpointMismatch(source, "; ".join(shapes[:_SHOWN]))
    model.load_state_dict(weights, assign=True)


def _is_pickled(path: Path) -> bool:
    """A zip archive or a bare pickle; a safetensors file begins with the length of its header, then a brace."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:9] != b"{"


def _names(kind: str, names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind} {', '.join(names[:_SHOWN])}{more}" if names else ""
