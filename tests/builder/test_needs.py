"""The graphics memory that the catalog states is what the planner computes."""

import dataclasses
from pathlib import Path

import pytest
import torch

from builder.needs import ESRGAN, main, needs, parameters, renewed
from engine.catalog import Model, Needs, built_in
from engine.models.esrgan.names import build
from engine.models.esrgan.srvgg import SRVGGConfig
from engine.pipelines.esrgan import open_esrgan

MODELS = built_in().models
COMPACT = [config for config in ESRGAN if isinstance(config, SRVGGConfig)]
CATALOG = Path(__file__).parents[2] / "engine" / "catalog.toml"


def test_what_a_model_needs_is_what_the_planner_computes() -> None:
    stated = {model.name: model.needs for model in MODELS}
    computed = {model.name: needs(model) for model in MODELS}
    assert stated == computed, "run: python -m builder.needs --write engine/catalog.toml"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_thriftiest_plan_takes_less_than_the_roomiest(model: Model) -> None:
    assert model.needs is not None and 0 < model.needs.least < model.needs.whole


def test_fewer_bits_need_less() -> None:
    whole = {model.name: model.needs.whole for model in MODELS if model.needs}
    names = ["seedvr2_ema_7b-Q4_K_M", "seedvr2_ema_7b_fp8_e4m3fn_mixed_block35_fp16", "seedvr2_ema_7b_fp16"]
    assert [whole[name] for name in names] == sorted(whole[name] for name in names)


def test_renewing_puts_one_line_into_each_entry() -> None:
    text = CATALOG.read_text("utf-8")
    model = dataclasses.replace(MODELS[0], needs=Needs(1, 2))
    line = next(line for line in text.splitlines() if line.startswith("needs = "))
    assert renewed(text.replace(line, "needs = { least = 1, whole = 2 }", 1), [model]).count("needs = ") == 1
    assert renewed(text, MODELS) == text


def test_a_network_of_an_unknown_size_is_told() -> None:
    with pytest.raises(ValueError, match="`bundled` has the size of no network"):
        needs(dataclasses.replace(MODELS[0], parameters=5))


def test_the_command_prints_a_line_per_model(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(MODELS) and lines[0].startswith("bundled ")


@pytest.mark.parametrize("config", COMPACT, ids=lambda c: f"{c.convs}x{c.scale}")
def test_every_compact_network_of_the_catalog_is_told_from_its_tensors(config: SRVGGConfig, tmp_path: Path) -> None:
    torch.save({"params": build(config).state_dict()}, tmp_path / "net.pth")
    net, _ = open_esrgan([tmp_path / "net.pth"])
    assert net.config == config
    assert any((model.parameters, model.scale) == (parameters(config), config.scale) for model in MODELS)
