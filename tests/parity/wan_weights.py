"""Goldens of what goes into Wan2.1's transformer: made-up weights, other layouts' names, LoRAs, what is refused."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.names import Unsupported, original, parse
from engine.weights.lora import apply_loras, read_lora
from tests.parity.rows import Row, compare_max, exact, kind
from tests.parity.wan_dit import by_rule, config_of

NETWORK = 1e-3  # of the wanted values' spread


@kind("lora_a")
def lora(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The velocity of a network with a LoRA in it, which is far from that of the network alone."""
    net = by_rule(config_of(sidecar["config"]))
    shapes = {key: tuple(weight.shape) for key, weight in net.state_dict().items()}
    file = {key.removeprefix("lora|"): tensor for key, tensor in tensors.items() if key.startswith("lora|")}
    apply_loras(net, [(read_lora(file, shapes, original), sidecar["strength"])])
    with torch.inference_mode():
        net.prepare()
        out = net(tensors["x"], tensors["t"], [net.context(tensors["context_0"])])
    wanted = tensors["out"]
    yield compare_max(f"{name} out", out, wanted, NETWORK * (wanted.max() - wanted.min()).item())


@kind("weights_probe")
def rule(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """First values and sums of some tensors of each network."""
    for network, probes in sidecar.items():
        yield exact(f"{name} {network}", all(_agrees(key, told) for key, told in probes.items()))


@kind("keymap_dit")
def names_of_diffusers(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Diffusers' name of each tensor, which must come back as the original one; so must the original."""
    yield exact(f"{name} theirs", {theirs: original(theirs) for theirs in sidecar.values()} == _inverse(sidecar))
    yield exact(f"{name} ours", all(original(ours) == ours for ours in sidecar))


@kind("flf2v_14B")
def refused(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """A network for a first and a last frame, at full size."""
    try:
        parse({key: torch.empty(shape, device="meta") for key, shape in sidecar.items()})
        message = ""
    except Unsupported as error:
        message = str(error)
    yield exact(f"{name} is refused by name", "FLF2V" in message)


def _agrees(name: str, told: Mapping[str, Any]) -> bool:
    weight = tensor_by_rule(name, tuple(told["shape"])).double()
    sums = torch.stack([weight.sum() - told["sum"], weight.square().sum() - told["sumsq"]])
    first = weight.flatten()[: len(told["first"])] - torch.tensor(told["first"], dtype=torch.float64)
    return bool((sums.abs() <= 1e-6 * weight.abs().sum()).all() and (first.abs() <= 1e-6).all())


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}
