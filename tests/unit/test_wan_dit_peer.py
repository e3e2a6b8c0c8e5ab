"""The transformer against the diffusers library's, of random sizes, with the same weights."""

import random

import pytest
import torch
from torch import Tensor, nn

from benchmarks.wan.peers import empty_transformer
from engine.models.wan.config import DiTConfig
from engine.models.wan.names import original
from tests.parity.wan_dit import by_rule

PICTURE = 257  # rows of CLIP's features


def some_config(pick: random.Random, task: str) -> DiTConfig:
    heads, image = pick.randint(1, 4), pick.choice([32, 80]) if task == "i2v" else None
    return DiTConfig(
        "i2v" if task == "i2v" else "t2v",
        dim=heads * pick.choice([8, 22, 64]),
        hidden=pick.randint(20, 300),
        heads=heads,
        layers=pick.randint(1, 3),
        inputs=36 if task == "i2v" else 16,
        times=pick.choice([64, 256]),
        text_dim=pick.randint(8, 60),
        image_dim=image,
    )


def peer(config: DiTConfig, weights: dict[str, Tensor]) -> nn.Module:
    net = empty_transformer(config)
    known = {name: weights[original(name)] for name in net.state_dict() if "norm_added_q" not in name}
    assert len(known) == len(weights)
    net.load_state_dict(known, strict=False)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("task", ["t2v", "i2v"])
@torch.inference_mode()
def test_the_velocity_is_the_peers(task: str, seed: int) -> None:
    pick = random.Random(seed)
    config, draw = some_config(pick, task), torch.Generator().manual_seed(seed)
    net = by_rule(config)
    theirs = peer(config, net.state_dict())
    net.prepare(pick.choice([None, torch.device("cpu")]))

    batch, size = pick.randint(1, 2), (pick.randint(1, 5), 2 * pick.randint(1, 6), 2 * pick.randint(1, 6))
    x, steps = torch.randn(batch, config.inputs, *size, generator=draw), 1000 * torch.rand(batch, generator=draw)
    texts = [torch.randn(pick.randint(1, 40), config.text_dim, generator=draw) for _ in range(batch)]
    pictures = None if task == "t2v" else torch.randn(batch, PICTURE, config.image_dim, generator=draw)
    padded = torch.stack([torch.cat((text, text.new_zeros(512 - len(text), config.text_dim))) for text in texts])

    wanted = theirs(x, steps, padded, pictures, return_dict=False)[0]
    contexts = [net.context(*given) for given in (zip(texts, pictures, strict=True) if task == "i2v" else zip(texts))]
    out = net(x, steps, contexts)
    assert (out - wanted).abs().max() <= 1e-4 * (wanted.max() - wanted.min())
