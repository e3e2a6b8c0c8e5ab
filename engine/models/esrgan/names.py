"""Which network a checkpoint is for, read from its names and shapes alone, and its names turned into ours."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from engine.models.esrgan.rrdb import RRDBConfig, RRDBNet
from engine.models.esrgan.srvgg import SRVGG, SRVGGConfig

Weights = Mapping[str, Tensor]

_FIRST_RELEASE = {  # the rest of that release's names, `model.N`, count along the network
    re.compile(r"model\.1\.sub\.(\d+)\.RDB([123])\.conv([1-5])\.0\.(weight|bias)"): r"body.\1.rdb\2.conv\3.\4",
    re.compile(r"model\.1\.sub\.\d+\.(weight|bias)"): r"conv_body.\1",
}
_NUMBERED = re.compile(r"model\.(\d+)\.(?:weight|bias)")


def rename(weights: Weights) -> dict[str, Tensor]:
    """The names of ESRGAN's first release (`model.1.sub.0.RDB1.conv1.0.weight`) in today's; others as they are."""
    numbers = sorted({int(m[1]) for name in weights if (m := _NUMBERED.fullmatch(name))})
    if len(numbers) < 3:
        return dict(weights)
    ours = ["conv_first", *(f"conv_up{step + 1}" for step in range(len(numbers) - 3)), "conv_hr", "conv_last"]
    table = {f"model.{number}": name for number, name in zip(numbers, ours, strict=True)}
    return {_new_name(name, table): tensor for name, tensor in weights.items()}


def recognise(weights: Weights) -> SRVGGConfig | RRDBConfig | None:
    """The network of renamed `weights`, or None when they are of neither architecture."""
    try:
        return _rrdb(weights) if "conv_first.weight" in weights else _srvgg(weights)
    except (KeyError, ValueError, ZeroDivisionError):  # a layer that tells a size is missing or has an impossible one
        return None


def build(config: SRVGGConfig | RRDBConfig) -> SRVGG | RRDBNet:
    """The network of that size, on torch's current default device."""
    return SRVGG(config) if isinstance(config, SRVGGConfig) else RRDBNet(config)


def _new_name(name: str, table: Mapping[str, str]) -> str:
    for pattern, ours in _FIRST_RELEASE.items():
        if m := pattern.fullmatch(name):
            return m.expand(ours)
    layer, _, kind = name.rpartition(".")
    return f"{table[layer]}.{kind}" if layer in table else name


def _srvgg(weights: Weights) -> SRVGGConfig:
    feat, colours = weights["body.0.weight"].shape[:2]
    last = max(int(m[1]) for name in weights if (m := re.fullmatch(r"body\.(\d+)\.weight", name)))
    scale = math.isqrt(weights[f"body.{last}.weight"].shape[0] // colours)
    return SRVGGConfig(feat=feat, convs=last // 2 - 1, scale=scale, colours=colours)


def _rrdb(weights: Weights) -> RRDBConfig:
    feat, inputs = weights["conv_first.weight"].shape[:2]
    colours = weights["conv_last.weight"].shape[0]
    return RRDBConfig(
        blocks=len({m[1] for name in weights if (m := re.match(r"body\.(\d+)\.", name))}),
        feat=feat,
        grow=weights["body.0.rdb1.conv1.weight"].shape[0],
        steps=len({name for name in weights if re.fullmatch(r"conv_up\d+\.weight", name)}),
        unshuffle=math.isqrt(inputs // colours),
        colours=colours,
    )
