"""LoRA files -> what they add to each parameter of a network, and the adding of it. Hu et al., arXiv:2106.09685.

W + strength * (alpha / rank) * up @ down, and differences beside that, which strength scales, too. Which conventions of
naming there are is known here, and which parameters a network has is told.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.weights.packed import PackedLinear
from engine.weights.stored import Stored

Given = Tensor | Stored

_SHOWN = 5  # names in a message
_PREFIX = re.compile(
    r"(?:base_model\.model\.)?(?:model\.diffusion_model\.|diffusion_model\.|transformer\.|lora_unet_)?"
)
# PEFT's A is down and B up, with the adapter's name or without. Of the rest, all conventions call a thing the same.
_KEY = re.compile(
    r"(?P<layer>.+?)\.(?:lora_(?P<peft>[AB])(?:\.[^.]+)??\.weight|lora_(?P<kohya>down|up)\.weight|(?P<leaf>alpha|diff(_[bm])?))"
)
_PEFT = {"A": "down", "B": "up"}
_TARGETS = {"diff_b": "bias", "diff_m": "modulation"}  # else the layer's weight


class LoraMismatch(Exception):
    """A LoRA is for another network, or in a form that is not read; the message says which of its names tell so."""


@dataclass(slots=True)
class Delta:
    """What one file adds to one parameter: alpha / rank * up @ down, and `diff`.

    down: (rank, inputs), up: (outputs, rank), of a convolution with its kernel behind them.
    """

    down: Given | None = None
    up: Given | None = None
    alpha: Given | None = None
    diff: Given | None = None

    def factors(self) -> tuple[Tensor, Tensor] | None:
        """(rank, inputs) and (outputs, rank) in float32, alpha folded in, or None where there is only a difference."""
        if self.down is None or self.up is None:
            return None
        down, up = _numbers(self.down).flatten(1), _numbers(self.up).flatten(1)
        return down, up if self.alpha is None else up * (_numbers(self.alpha).item() / len(down))

    def difference(self) -> Tensor | None:
        return None if self.diff is None else _numbers(self.diff)


def read_lora(
    weights: Mapping[str, Given], parameters: Mapping[str, Sequence[int]], rename: Callable[[str], str]
) -> dict[str, Delta]:
    """What the file of `weights` adds to each of `parameters`, which are names and shapes.

    rename: a layer's other name -> the one it has here. Raises LoraMismatch unless every tensor has its place.
    """
    layers = _layers(parameters)
    deltas: dict[str, Delta] = {}
    unknown = []
    for key, given in weights.items():
        match = _KEY.fullmatch(key)
        name = None if match is None else _parameter(match, layers, parameters, rename)
        if match is None or name is None:
            unknown.append(key)
            continue
        part = _PEFT.get(match["peft"] or "") or match["kohya"] or match["leaf"].partition("_")[0]
        delta = deltas.setdefault(name, Delta())
        if getattr(delta, part) is not None:
            raise LoraMismatch(f"it has two tensors for {part} of {name}")
        setattr(delta, part, given)
    if unknown or not deltas:
        raise LoraMismatch(_unknown(unknown) if unknown else "it is empty")
    for name, delta in deltas.items():
        _check(name, delta, tuple(parameters[name]))
    return deltas


def apply_loras(model: nn.Module, loras: Sequence[tuple[Mapping[str, Delta], float]]) -> None:
    """Add all files' deltas, each times its strength, to a loaded network. Sums are float32 and rounded once.

    A packed layer keeps its weight as it is and gets a side branch; unless a whole difference is for it: then it
    becomes an ordinary layer.
    """
    for name in dict.fromkeys(name for deltas, _ in loras for name in deltas):
        given = [(deltas[name], strength) for deltas, strength in loras if name in deltas]
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if not isinstance(module, PackedLinear) or leaf != "weight":
            parameter = module.get_parameter(leaf)
            parameter.data = _merged(parameter.detach().to(torch.float32, copy=True), given).to(parameter.dtype)
        elif all(delta.diff is None for delta, _ in given):
            module.side = _side(module, given)
        else:
            model.set_submodule(path, _unpacked(module, given))


def _layers(parameters: Iterable[str]) -> dict[str, str]:
    """Paths of what holds parameters, as they are and with underscores for their dots, as Kohya's tools write them."""
    paths = {name.rpartition(".")[0] for name in parameters}
    return {path.replace(".", "_"): path for path in paths} | {path: path for path in paths}


def _parameter(
    match: re.Match[str], layers: Mapping[str, str], parameters: Iterable[str], rename: Callable[[str], str]
) -> str | None:
    layer = _PREFIX.sub("", match["layer"], count=1)
    path = layers.get(rename(layer))
    name = f"{path}.{_TARGETS.get(match['leaf'], 'weight')}"
    return name if name in parameters else None


def _check(name: str, delta: Delta, shape: tuple[int, ...]) -> None:
    if (delta.down is None) != (delta.up is None) or (delta.alpha is not None and delta.down is None):
        raise LoraMismatch(f"of what it adds to {name} a part is missing")
    if delta.down is not None and delta.up is not None:
        down, up = tuple(delta.down.shape), tuple(delta.up.shape)
        if len(shape) < 2 or up[:2] != (shape[0], down[0]) or down[1:] != shape[1:] or delta.up.shape[2:].numel() != 1:
            raise LoraMismatch(f"{name} is {shape}, which {up} times {down} is not")
    if delta.diff is not None and tuple(delta.diff.shape) != shape:
        raise LoraMismatch(f"{name} is {shape}, not {tuple(delta.diff.shape)}")
    if delta.alpha is not None and delta.alpha.shape.numel() != 1:
        raise LoraMismatch(f"alpha of {name} is no number")


def _unknown(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"the network has no place for {', '.join(keys[:_SHOWN])}{more}"


def _numbers(given: Given) -> Tensor:
    return (given.read() if isinstance(given, Stored) else given).float()


def _side(layer: PackedLinear, given: Sequence[tuple[Delta, float]]) -> tuple[Tensor, Tensor]:
    """One branch for all: their ranks lie one after the other."""
    pairs = [(factors, strength) for delta, strength in given if (factors := delta.factors()) is not None]
    down = torch.cat([down for (down, _), _ in pairs])
    up = torch.cat([up * strength for (_, up), strength in pairs], dim=1)
    return down.to(layer.packed.device, _dtype(layer)), up.to(layer.packed.device, _dtype(layer))


def _unpacked(layer: PackedLinear, given: Sequence[tuple[Delta, float]]) -> nn.Linear:
    linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    weight = _merged(layer.weight(torch.float32), given)
    linear.weight, linear.bias = nn.Parameter(weight.to(_dtype(layer)), requires_grad=False), layer.bias
    return linear


def _dtype(layer: PackedLinear) -> torch.dtype:
    """What its plain neighbours are in."""
    return torch.float32 if layer.bias is None else layer.bias.dtype


def _merged(total: Tensor, given: Sequence[tuple[Delta, float]]) -> Tensor:
    """A parameter's float32 values, changed in place."""
    for delta, strength in given:
        if (factors := delta.factors()) is not None:
            down, up = (factor.to(total.device) for factor in factors)
            total.flatten(1).addmm_(up, down, alpha=strength)
        if (difference := delta.difference()) is not None:
            total.add_(difference.to(total.device), alpha=strength)
    return total
