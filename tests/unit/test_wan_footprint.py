"""What a pass of a full-width transformer takes, measured on `meta`, against what is planned for it."""

from dataclasses import replace

import pytest
import torch

from engine.models.wan.config import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig
from engine.models.wan.dit import Context, WanDiT
from engine.models.wan.footprint import CHUNK_TOKENS_CPU, activation_bytes, context_bytes
from engine.models.wan.rope import table
from tests.live_bytes import LiveBytes

SIZES = {"480P": (21, 60, 104), "720P": (21, 90, 160), "still": (1, 60, 104)}


@pytest.mark.parametrize(
    ("config", "size", "batch", "dtype"),
    [
        (T2V_1_3B, "480P", 1, torch.bfloat16),
        (T2V_1_3B, "720P", 2, torch.bfloat16),
        (T2V_1_3B, "480P", 2, torch.float32),
        (T2V_14B, "480P", 2, torch.bfloat16),
        (T2V_14B, "720P", 1, torch.bfloat16),
        (T2V_14B, "still", 1, torch.bfloat16),
        (I2V_14B, "480P", 1, torch.float32),
        (I2V_14B, "720P", 2, torch.float16),
    ],
)
def test_what_is_planned_is_within_a_tenth_of_what_is_taken(
    config: DiTConfig, size: str, batch: int, dtype: torch.dtype
) -> None:
    planned = activation_bytes(config, *SIZES[size], batch=batch, itemsize=dtype.itemsize)
    net, contexts = ready(replace(config, layers=2), batch, dtype)
    x = torch.empty(1, config.inputs, *SIZES[size], device="meta").expand(batch, -1, -1, -1, -1)
    assert 0.99 <= planned / taken(net, x, contexts) <= 1.1


@pytest.mark.parametrize("config", [T2V_1_3B, I2V_14B], ids=["t2v", "i2v"])
def test_contexts_take_what_is_planned(config: DiTConfig) -> None:
    _, (context,) = ready(replace(config, layers=2), 1, torch.bfloat16)
    held = sum(keys.k.nbytes + keys.v.nbytes for layer in context.layers for keys in layer)
    assert held == context_bytes(replace(config, layers=2))


def test_on_a_processor_smaller_chunks_take_less() -> None:
    net = WanDiT(DiTConfig("t2v", dim=384, hidden=2240, heads=3, layers=1, inputs=16, text_dim=8)).requires_grad_(False)
    with torch.inference_mode():
        for parameter in net.parameters():
            parameter.normal_()
        net.prepare()
        x, contexts = torch.randn(1, 16, 3, 60, 80), [net.context(torch.randn(8, 8))]
    planned = activation_bytes(net.config, 3, 60, 80, itemsize=4, chunk_tokens=CHUNK_TOKENS_CPU)
    assert 0.99 <= planned / taken(net, x, contexts) <= 1.1


def ready(config: DiTConfig, batch: int, dtype: torch.dtype) -> tuple[WanDiT, list[Context]]:
    with torch.device("meta"), torch.inference_mode():
        net = WanDiT(config).to(dtype)
        net.prepare()
        image = None if config.image_dim is None else torch.empty(257, config.image_dim)
        return net, [net.context(torch.empty(60, config.text_dim), image)] * batch


def taken(net: WanDiT, x: torch.Tensor, contexts: list[Context]) -> int:
    table.cache_clear()  # a pass of a new size makes it
    with torch.inference_mode(), LiveBytes() as live:
        net(x, 700.0, contexts)
    return live.peak
