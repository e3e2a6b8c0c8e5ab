"""Goldens of what conditions Wan2.1: UMT5's encoder and CLIP's vision transformer, with weights made by the rule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan import clip_names, umt5_names
from engine.models.wan.clip import VIT_H, CLIPConfig, CLIPVision, clip_pixels
from engine.models.wan.umt5 import UMT5, UMT5_XXL, UMT5Config, relative_buckets
from engine.weights.load import load_weights
from tests.parity.rows import Row, compare_max, exact, kind

TOLERANCE = 1e-4
FARTHEST = 200  # relative positions whose buckets are told, both ways
CPU = torch.device("cpu")


@kind("umt5_")
def encoder(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The features of each prompt at its true length; the reference pads and masks."""
    net = umt5_by_rule(sidecar["config"])
    for index, length in enumerate(sidecar["valid_lens"]):
        with torch.inference_mode():
            features = net(tensors["ids"][index, :length])
        yield compare_max(f"{name} {length} tokens", features, tensors["out"][index, :length], TOLERANCE)
    buckets = relative_buckets(FARTHEST + 1, CPU)
    told = torch.cat((buckets[:, 0].flip(0), buckets[0, 1:]))
    yield exact(f"{name} buckets", torch.equal(told, tensors["bucket_for_relpos_m200_to_200"]))


@kind("clip_a")
def vision(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The pixels made of a picture, and the features of the reference's pixels and of ours."""
    net = clip_by_rule(sidecar["config"])
    pixels = clip_pixels(tensors["image_u8"].permute(2, 0, 1)[None] / 127.5 - 1)
    yield compare_max(f"{name} pixels", pixels, tensors["pixel_values"], TOLERANCE)
    with torch.inference_mode():
        yield compare_max(f"{name} features", net(tensors["pixel_values"]), tensors["out"], TOLERANCE)
        yield compare_max(f"{name} features of our pixels", net(pixels), tensors["out"], TOLERANCE)


@kind("umt5_xxl_encoder")
def published_encoder(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every name and shape of the published file, the sidecar, at full size."""
    checkpoint = umt5_names.parse({key: Handle(tuple(shape)) for key, shape in sidecar.items()})
    yield exact(f"{name} is recognised", checkpoint is not None and checkpoint.config == UMT5_XXL)
    assert checkpoint is not None
    with torch.device("meta"):
        yield same_names(name, UMT5(UMT5_XXL), checkpoint.weights)
    yield exact(f"{name} nothing is left out", checkpoint.weights.keys() == sidecar.keys())


@kind("clip_visual")
def published_vision(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every name and shape of the published file, the sidecar, at full size."""
    checkpoint = clip_names.parse({key: Handle(tuple(shape)) for key, shape in sidecar.items()})
    yield exact(f"{name} is recognised", checkpoint is not None and checkpoint.config == VIT_H)
    assert checkpoint is not None
    with torch.device("meta"):
        yield same_names(name, CLIPVision(VIT_H), checkpoint.weights)


@kind("keymap_umt5_hf")
def names_of_transformers(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The names that transformers gives to one layer, each of which must come back as the published one."""
    with torch.device("meta"):
        net = UMT5(UMT5Config(vocab=8, dim=4, inner=4, heads=2, hidden=8, layers=1))
    shapes = {key: tuple(weight.shape) for key, weight in net.state_dict().items()}
    checkpoint = umt5_names.parse({theirs: Handle(shapes[ours]) for ours, theirs in sidecar.items()})
    assert checkpoint is not None
    yield same_names(name, net, checkpoint.weights)


@dataclass(frozen=True)
class Handle:
    """A tensor that has not been read."""

    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> "Handle":
        return Handle((stop - start, *self.shape[1:]))


def same_names(name: str, net: nn.Module, weights: Mapping[str, Any]) -> Row:
    """Whether `weights` have all of the network's names and shapes and no others."""
    wanted = {key: tuple(weight.shape) for key, weight in net.state_dict().items()}
    return exact(f"{name} names and shapes", {key: tuple(w.shape) for key, w in weights.items()} == wanted)


def umt5_by_rule(told: Mapping[str, Any]) -> UMT5:
    """The encoder of a sidecar's `config`."""
    config = UMT5Config(
        told["vocab"], told["dim"], told["dim_attn"], told["num_heads"], told["dim_ffn"], told["num_layers"]
    )
    with torch.device("meta"):
        net = UMT5(config)
    weights = {key: tensor_by_rule(key, tuple(weight.shape)) for key, weight in net.state_dict().items()}
    load_weights(net, weights, "weights by rule")
    return net


def clip_by_rule(told: Mapping[str, Any]) -> CLIPVision:
    """The transformer of a sidecar's `config`, whose weights have the published names until they are ours."""
    dim = told["dim"]
    config = CLIPConfig(dim, told["num_heads"], 4 * dim, told["num_layers"] - 1)
    with torch.device("meta"):
        net = CLIPVision(config)
    shapes = {f"visual.{key}": tuple(weight.shape) for key, weight in net.state_dict().items() if ".to_" not in key}
    for layer in range(told["num_layers"]):  # of the last one nothing is read but its number
        qkv = f"visual.transformer.{layer}.attn.to_qkv"
        shapes |= {f"{qkv}.weight": (3 * dim, dim), f"{qkv}.bias": (3 * dim,)}
    checkpoint = clip_names.parse({key: tensor_by_rule(key, shape) for key, shape in shapes.items()})
    assert checkpoint is not None
    load_weights(net, checkpoint.weights, "weights by rule")
    return net
