"""The yardstick of `benchmarks.seedvr2` does the work that our networks do."""

import pytest
import torch

from benchmarks.seedvr2.plain_dit import PlainDiT
from benchmarks.seedvr2.plain_vae import PlainVAE
from builder.tiny.weights import CONFIGS, VAE, by_rule
from engine.models.seedvr2.dit import build
from engine.models.seedvr2.vae import VideoVAE


@pytest.mark.parametrize("kind", ["3b", "7b"])
@pytest.mark.parametrize("size", [(1, 12, 10), (3, 46, 20)])
def test_the_plain_transformer_gives_our_output(kind: str, size: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        net = build(CONFIGS[kind])
    weights = by_rule(net)
    net.load_state_dict(weights, assign=True)
    x, text = torch.randn(*size, 33), torch.randn(9, net.config.text_dim)
    with torch.inference_mode():
        net.prepare(text)
        ours = net(x[None])[0]
    assert torch.allclose(PlainDiT(net.config, weights)(x, text), ours, atol=1e-3 if kind == "7b" else 1e-4)


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_the_plain_autoencoder_gives_our_output(frames: int) -> None:
    with torch.device("meta"):
        ours, plain = VideoVAE(VAE), PlainVAE(VAE)
    weights = by_rule(ours)
    plain.load_state_dict(weights, assign=True)
    ours.load_state_dict(weights, assign=True)
    x, z = torch.rand(1, 3, frames, 24, 16) * 2 - 1, torch.randn(1, 16, (frames + 3) // 4, 3, 2)
    with torch.inference_mode():
        ours.prepare()
        assert torch.allclose(plain.encode(x), ours.encode(x), atol=1e-4)
        assert torch.allclose(plain.decode(z), ours.decode(z), atol=2e-4)
