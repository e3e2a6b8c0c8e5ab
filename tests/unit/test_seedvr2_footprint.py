"""What a pass of a full-width transformer takes, measured on `meta`, against what is planned for it."""

from dataclasses import replace

import pytest
import torch

from engine.models.seedvr2.config import DIT_3B, DIT_7B, DiTConfig
from engine.models.seedvr2.dit import build
from engine.models.seedvr2.footprint import CHUNK_TOKENS_CPU, activation_bytes
from tests.live_bytes import LiveBytes

SIZES = {"720p": (90, 160), "1080p": (136, 240), "4K": (270, 480)}


@pytest.mark.parametrize("config", [replace(DIT_3B, layers=3, separate=2), replace(DIT_7B, layers=2, separate=2)])
@pytest.mark.parametrize(
    ("size", "frames", "batch"),
    [("720p", 1, 1), ("720p", 1, 3), ("720p", 6, 1), ("1080p", 2, 1), ("1080p", 6, 1), ("1080p", 1, 3), ("4K", 2, 1)],
)
def test_what_is_planned_is_at_most_a_quarter_above_what_is_taken(
    config: DiTConfig, size: str, frames: int, batch: int
) -> None:
    planned = activation_bytes(config, frames, *SIZES[size], batch=batch)
    assert 1 <= planned / taken(config, frames, *SIZES[size], batch) <= 1.25


def test_a_long_clip_takes_little_more_than_its_two_streams() -> None:
    config = replace(DIT_7B, layers=2, separate=2)
    shape = (21, *SIZES["1080p"])
    planned = activation_bytes(config, *shape)
    assert 1 <= planned / taken(config, *shape, 1) <= 1.25
    assert planned < 2.1 * 2 * config.dim * 171_360


def test_on_a_processor_smaller_chunks_take_less() -> None:
    config = DiTConfig("3b", dim=768, layers=2, hidden=2048, separate=1, text_dim=96)
    net = build(config)
    with torch.inference_mode():
        for parameter in net.parameters():
            parameter.normal_()
        net.prepare(torch.randn(8, 96))
        with LiveBytes() as live:
            net(torch.randn(1, 2, 60, 80, 33))
    planned = activation_bytes(config, 2, 60, 80, itemsize=4, chunk_tokens=CHUNK_TOKENS_CPU)
    assert 1 <= planned / live.peak <= 1.25


def taken(config: DiTConfig, t: int, h: int, w: int, batch: int) -> int:
    with torch.device("meta"):
        net = build(config).bfloat16()
        text, x = torch.empty(58, 5120, dtype=torch.bfloat16), torch.empty(batch, t, h, w, 33, dtype=torch.bfloat16)
    with torch.inference_mode():
        net.prepare(text)
        with LiveBytes() as live:
            net(x)
    return live.peak
