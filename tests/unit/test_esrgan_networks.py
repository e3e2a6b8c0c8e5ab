"""The two Real-ESRGAN networks, and how a checkpoint tells which it is for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.models.esrgan.bands import enlarge_by_bands
from engine.models.esrgan.names import build, recognise, rename
from engine.models.esrgan.rrdb import X2PLUS, X4PLUS, X4PLUS_ANIME_6B, RRDBConfig, RRDBNet
from engine.models.esrgan.srvgg import ANIMEVIDEO_V3, GENERAL_X4V3, SRVGG, SRVGGConfig
from tests.parity.esrgan import weights_by_rule

SMALL = SRVGGConfig(feat=8, convs=4, scale=2)


def weights_of(config: SRVGGConfig | RRDBConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(build(config).state_dict())


def ruled(config: SRVGGConfig | RRDBConfig) -> SRVGG | RRDBNet:
    net = build(config)
    net.load_state_dict(weights_by_rule(net))
    return net.eval()


@pytest.mark.parametrize(
    "config",
    [
        ANIMEVIDEO_V3,
        GENERAL_X4V3,
        SMALL,
        SRVGGConfig(feat=24, convs=8, scale=3, colours=1),
        X4PLUS,
        X2PLUS,
        X4PLUS_ANIME_6B,
        RRDBConfig(blocks=1, feat=16, grow=8, unshuffle=4),
        RRDBConfig(blocks=2, feat=16, grow=8, steps=3),
        RRDBConfig(blocks=2, feat=16, grow=8, steps=0),
    ],
)
def test_a_checkpoint_tells_its_network_by_its_keys(config: SRVGGConfig | RRDBConfig) -> None:
    assert recognise(weights_of(config)) == config


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"layer.weight": torch.zeros(3, 3)},
        {"body.0.weight": torch.zeros(3)},
        {"conv_first.weight": torch.zeros(64, 3, 3, 3)},
        {"conv_first.weight": torch.zeros(64, 3, 3, 3), "conv_last.weight": torch.zeros(0, 3, 3, 3)},
        {"body.0.weight": torch.zeros(64, 0, 3, 3)},
    ],
)
def test_other_checkpoints_are_not_recognised(names: dict[str, Tensor]) -> None:
    assert recognise(names) is None


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_names_of_the_first_release_are_todays(steps: int) -> None:
    config = RRDBConfig(blocks=2, feat=16, grow=8, steps=steps)
    today = weights_of(config)
    numbers = {f"conv_up{i + 1}": 3 * (i + 1) for i in range(steps)}
    numbers |= {"conv_first": 0, "conv_hr": 3 * steps + 2, "conv_last": 3 * steps + 4}

    def old(name: str) -> str:
        layer, _, kind = name.rpartition(".")
        if layer == "conv_body":
            return f"model.1.sub.{config.blocks}.{kind}"
        if layer in numbers:
            return f"model.{numbers[layer]}.{kind}"
        _, block, dense, conv = layer.split(".")
        return f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"

    renamed = rename({old(name): tensor for name, tensor in today.items()})
    assert renamed.keys() == today.keys()
    assert all(renamed[name] is today[name] for name in today)
    assert recognise(renamed) == config


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SRVGGConfig(scale=0)
    with pytest.raises(ValueError, match="at least 1"):
        RRDBConfig(blocks=0)
    with pytest.raises(ValueError, match="shrink"):
        RRDBConfig(unshuffle=8)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 3), (6, 8), (7, 8), (8, 8), (50, 20)])
@pytest.mark.parametrize("band", [None, 2, 7])
def test_rolling_bands_give_what_the_whole_picture_gives(size: tuple[int, int], band: int | None) -> None:
    net = ruled(SMALL)
    assert isinstance(net, SRVGG)
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(enlarge_by_bands(net, x, band), net(x), rtol=0, atol=1e-5)


def test_a_small_dtype_inside_leaves_the_pictures_own_precision() -> None:
    net = ruled(replace(SMALL, scale=4))
    assert isinstance(net, SRVGG)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = net(x)
        net.bfloat16()
        for got in (net(x), enlarge_by_bands(net, x)):
            assert got.dtype == torch.float32
            assert 10 * torch.log10(1 / (got - exact).square().mean()) > 45


def test_the_dense_network_of_half_the_scale_unshuffles_first() -> None:
    net = ruled(RRDBConfig(blocks=1, feat=16, grow=8, unshuffle=2))
    with torch.inference_mode():
        assert net(torch.rand(1, 3, 6, 10)).shape == (1, 3, 12, 20)
