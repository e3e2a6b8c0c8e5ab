"""Goldens of Real-ESRGAN: `x` (B, C, H, W) in [0, 1] and the network's output `y`, unclamped."""

import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.esrgan.names import build, recognise
from engine.models.esrgan.rrdb import RRDBConfig
from engine.models.esrgan.srvgg import SRVGGConfig
from engine.weights.load import load_weights, read_weights
from tests.parity.rows import CannotCheck, Row, compare, kind

TOLERANCE = 1e-5
ANIMEVIDEO_V3 = "REALESR_ANIMEVIDEOV3"


@kind("rrdb_", "srvgg_")
def by_rule(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Networks whose weights are made by the rule; their sizes are in the name."""
    if m := re.match(r"rrdb_(\d+)_x(\d)_", name):
        config: RRDBConfig | SRVGGConfig = RRDBConfig(blocks=int(m[1]), unshuffle=4 // int(m[2]))
    elif m := re.match(r"srvgg_\w+_(\d+)conv_x(\d)_", name):
        config = SRVGGConfig(convs=int(m[1]), scale=int(m[2]))
    else:
        raise CannotCheck("the name tells no sizes")
    with torch.device("meta"):
        net = build(config)
    load_weights(net, weights_by_rule(net), name)
    yield _row(name, net, tensors)


@kind("realesr_animevideov3_")
def published(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The network of the published file."""
    path = os.environ.get(ANIMEVIDEO_V3)
    if not path:
        raise CannotCheck(f"{ANIMEVIDEO_V3} does not name the published file")
    weights = read_weights(Path(path))
    config = recognise(weights)
    assert config is not None
    with torch.device("meta"):
        net = build(config)
    load_weights(net, weights, name)
    yield _row(name, net, tensors)


def weights_by_rule(net: nn.Module) -> dict[str, Tensor]:
    """Weights that anybody can make again: each tensor's noise is seeded by its name."""
    return {name: _tensor_by_rule(name, tensor.shape) for name, tensor in net.state_dict().items()}


def _tensor_by_rule(name: str, shape: torch.Size) -> Tensor:
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if r.ndim >= 2:
        return r / math.sqrt(r[0].numel())
    return 0.02 * r if name.endswith("bias") else 0.25 + 0.02 * r


def _row(name: str, net: nn.Module, tensors: Mapping[str, Tensor]) -> Row:
    with torch.inference_mode():
        return compare(name, net(tensors["x"]), tensors["y"], TOLERANCE)
