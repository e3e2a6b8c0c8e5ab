"""Scaled fp8: the scale beside a weight belongs to it, wherever the weight goes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.weights.fp8_matmul import quantize
from engine.weights.load import CheckpointMismatch, load_weights, open_all, open_weights
from engine.weights.packed import PackedLinear
from engine.weights.scaled import fold_scales

E4M3 = torch.float8_e4m3fn
SCALES = {"scalar": torch.tensor(0.37), "one": torch.tensor([0.37]), "rows": torch.rand(48) + 0.1}
SCALES["column"] = SCALES["rows"][:, None]
each_scale = pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(64, 48)
        self.table = nn.Embedding(48, 64)


def weight(seed: int = 0) -> Tensor:
    return torch.randn(48, 64, generator=torch.Generator().manual_seed(seed)).to(E4M3)


def write(tmp_path: Path, scale: Tensor, spelling: str = "scale_weight", **more: Tensor) -> Path:
    tensors = {"proj.weight": weight(), f"proj.{spelling}": scale, "proj.bias": torch.ones(48)}
    save_file(
        {**tensors, "table.weight": weight(1), f"table.{spelling}": scale.clone(), **more}, tmp_path / "net.safetensors"
    )
    return tmp_path / "net.safetensors"


def load(path: Path, dtype: torch.dtype = torch.float32) -> Net:
    with torch.device("meta"):
        net = Net()
    load_weights(net, open_all([path]), path.name, dtype=dtype)
    return net


@each_scale
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_is_its_numbers_times_its_scale_rounded_once(
    tmp_path: Path, scale: Tensor, dtype: torch.dtype
) -> None:
    net = load(write(tmp_path, scale), dtype)
    column = scale.reshape(-1, 1)
    assert isinstance(net.proj, PackedLinear)
    assert torch.equal(net.proj.weight(dtype), (weight().float() * column).to(dtype))
    assert torch.equal(net.table.weight, (weight(1).float() * column).to(dtype))
    x = torch.randn(5, 64).to(dtype)
    assert torch.equal(net.proj(x), nn.functional.linear(x, net.proj.weight(dtype), net.proj.bias.to(dtype)))


def test_a_scale_outlives_a_change_of_dtype_and_keeps_the_weight_small(tmp_path: Path) -> None:
    net = load(write(tmp_path, SCALES["rows"]))
    before = net.proj.weight(torch.float32)  # type: ignore[operator]
    net.to(torch.bfloat16)
    assert torch.equal(net.proj.weight(torch.float32), before)  # type: ignore[operator]
    assert sum(t.nbytes for t in net.proj.buffers()) == 48 * 64 + 48 * 4


@pytest.mark.parametrize("spelling", ["scale_weight", "weight_scale"])
def test_markers_notes_and_scales_of_activations_are_left_out(tmp_path: Path, spelling: str) -> None:
    more = {
        "scaled_fp8": torch.zeros(2, dtype=E4M3),
        "proj.input_scale": torch.ones(()),
        "proj.scale_input": torch.ones(1),
        "proj.comfy_quant": torch.zeros(30, dtype=torch.uint8),
    }
    folded = fold_scales(open_weights(write(tmp_path, SCALES["scalar"], spelling, **more)))
    assert folded.keys() == {"proj.weight", "proj.bias", "table.weight"}
    assert folded["proj.weight"].scale is not None
    assert folded["proj.bias"].scale is None
    assert fold_scales(folded) == folded


def test_an_empty_marker_is_left_out_and_a_larger_one_is_no_marker(tmp_path: Path) -> None:
    path = write(tmp_path, SCALES["one"], **{"model.scaled_fp8": torch.zeros(0), "scaled_fp8": torch.zeros(3)})
    assert {name for name in fold_scales(open_weights(path)) if "scaled" in name} == {"scaled_fp8"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"other.scale_weight": torch.ones(())}, "there is a scale for other.weight, and no other.weight"),
        ({"proj.weight_scale": torch.ones(())}, "proj.weight has two scales"),
        ({"proj.scale_weight": torch.ones(3)}, r"the scale of proj.weight, \(48, 64\), is \(3,\)"),
        ({"proj.scale_weight": torch.ones(1, 48)}, r"is \(1, 48\)"),
        ({"proj.scale_weight": torch.ones(48, dtype=torch.int32)}, "of torch.int32"),
    ],
)
def test_a_scale_that_fits_no_weight_is_told(tmp_path: Path, more: dict[str, Tensor], words: str) -> None:
    path = write(tmp_path, SCALES["scalar"], **more)
    with pytest.raises(CheckpointMismatch, match=rf"^net\.safetensors: .*{words}"):
        open_all([path])


@each_scale
def test_rows_of_a_weight_have_their_own_scales(tmp_path: Path, scale: Tensor) -> None:
    stored = fold_scales(open_weights(write(tmp_path, scale)))["proj.weight"]
    holder = nn.ModuleDict({"net": nn.Linear(64, 16, bias=False, device="meta")})
    load_weights(holder, {"net.weight": stored.rows(16, 32)}, "net")
    wanted = weight().float() * scale.reshape(-1, 1)
    assert torch.equal(holder["net"].weight(torch.float32), wanted[16:32])  # type: ignore[operator]


@each_scale
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_in_fp8_loses_a_few_hundredths(tmp_path: Path, scale: Tensor, dtype: torch.dtype) -> None:
    layer = load(write(tmp_path, scale), dtype).proj
    assert isinstance(layer, PackedLinear)
    x = (torch.randn(2, 7, 64) * torch.logspace(-3, 3, 7)[:, None]).to(dtype)
    wanted = layer(x).float()
    layer.fp8_matmul = True
    got = layer(x)
    assert got.dtype == dtype
    assert got.shape == (2, 7, 48)
    rows = (got.float() - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    assert 0 < rows.max() < 0.05


def test_a_side_branch_is_in_both_products(tmp_path: Path) -> None:
    layer = load(write(tmp_path, SCALES["rows"])).proj
    assert isinstance(layer, PackedLinear)
    plain = layer.weight(torch.float32)
    layer.side = torch.randn(4, 64), torch.randn(48, 4)
    assert torch.allclose(layer.weight(torch.float32), plain + layer.side[1] @ layer.side[0], atol=1e-6)
    x = torch.randn(9, 64)
    wanted = layer(x)
    layer.fp8_matmul = True
    assert (layer(x) - wanted).norm() / wanted.norm() < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 1e4])
def test_rounded_rows_reach_the_largest_number_and_come_back(dtype: torch.dtype, size: float) -> None:
    x = (torch.randn(6, 32, generator=torch.Generator().manual_seed(0)) * size).to(dtype)
    rows, steps = quantize(x)
    assert rows.float().isfinite().all()
    assert ((rows.float() * steps - x.float()).abs() <= x.float().abs().amax(1, keepdim=True) * 2**-4 + 1e-7).all()
    if size == 1:
        assert (rows.float().abs().amax(1) >= 440).all()
