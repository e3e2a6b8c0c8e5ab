"""Weights on their way to a GPU: through pinned buffers, converted there."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from engine.weights import reading
from engine.weights.load import load_weights, open_weights
from engine.weights.packed import PackedLinear

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_tensors_of_several_buffers_arrive_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: torch.dtype
) -> None:
    monkeypatch.setattr(reading, "PINNED", 2**12)
    seed = torch.Generator().manual_seed(0)
    tensors = {f"{i}.weight": torch.randn(64, 301, generator=seed).to(stored) for i in range(20)}
    save_file(tensors, tmp_path / "net.safetensors")
    with torch.device("meta"):
        net = nn.Sequential(*(nn.Linear(301, 64, bias=False) for _ in range(20)))
    device = torch.device("cuda")
    load_weights(net, open_weights(tmp_path / "net.safetensors"), "net", device=device, dtype=torch.bfloat16)
    for i, layer in enumerate(net):
        weight = layer.weight(torch.bfloat16) if isinstance(layer, PackedLinear) else layer.weight
        assert weight.device.type == "cuda"
        assert torch.equal(weight.cpu(), tensors[f"{i}.weight"].to(torch.bfloat16))
