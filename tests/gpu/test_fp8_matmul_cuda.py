"""Products in fp8 on a card that has them."""

import pytest
import torch
from torch import nn

from engine.weights.packed import PackedLinear

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.mark.parametrize("scaled", ["not", "once", "by rows"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_product_in_fp8_is_near_the_one_in_16_bits(scaled: str, dtype: torch.dtype) -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this card has no products in fp8")
    layer = PackedLinear(nn.Linear(512, 768, dtype=dtype, device="cuda"), torch.float8_e4m3fn)
    layer.packed = torch.randn(768, 512, device="cuda").to(torch.float8_e4m3fn).view(torch.uint8)
    if scaled != "not":
        layer.scale = torch.rand(1 if scaled == "once" else 768, 1, device="cuda") + 0.1
    x = torch.randn(2, 300, 512, device="cuda", dtype=dtype)
    with torch.inference_mode():
        wanted = layer(x).float()
        layer.fp8_matmul = True
        got = layer(x)
    assert got.dtype == dtype
    assert 0 < (got.float() - wanted).norm() / wanted.norm() < 0.04
