"""Tensors go from a file into a module one by one, in the dtype that is wanted, and the small types stay small."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.weights.load import load_weights, open_weights
from engine.weights.packed import PackedLinear, unpack_once

MIB = 2**20
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


class Net(nn.Module):
    """A linear layer, a norm's vector, a convolution, a buffer."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(64, 8)
        self.scale = nn.Parameter(torch.empty(8))
        self.conv = nn.Conv3d(2, 4, (1, 2, 2))
        self.register_buffer("table", torch.empty(5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


def values() -> dict[str, Tensor]:
    seed = torch.Generator().manual_seed(3)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Net().state_dict().items()}
    return {name: torch.randn(shape, generator=seed) for name, shape in shapes.items()}


def loaded(path: Path, dtype: torch.dtype | None) -> Net:
    with torch.device("meta"):
        net = Net()
    load_weights(net, open_weights(path), path.name, dtype=dtype)
    return net


def saved(tmp_path: Path, dtype: torch.dtype) -> Path:
    path = tmp_path / "net.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in values().items()}, path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_take_the_wanted_dtype(tmp_path: Path, stored: torch.dtype, dtype: torch.dtype) -> None:
    net = loaded(saved(tmp_path, stored), dtype)
    for name, tensor in values().items():
        assert torch.equal(net.state_dict()[name], tensor.to(stored).to(dtype)), name
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_without_a_wanted_dtype_numbers_stay_as_they_were_stored(tmp_path: Path) -> None:
    net = loaded(saved(tmp_path, torch.float16), None)
    assert {tensor.dtype for tensor in net.state_dict().values()} == {torch.float16}


def pages(path: Path) -> int:
    """Bytes of the file that are this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    return sum(1024 * int(next(r for r in lines if r.startswith("Rss:")).split()[1]) for at in lines if str(path) in at)


def test_on_a_cpu_what_stays_as_it_is_stored_is_the_file_itself_in_memory(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.float16)
    assert pages(path) == 0
    net = loaded(path, torch.float16)
    assert pages(path) >= path.stat().st_size
    del net
    assert pages(path) == 0


def test_nothing_of_a_file_stays_in_memory_whose_numbers_changed(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.float16)
    net = loaded(path, torch.float32)
    assert pages(path) == 0
    assert net.scale.dtype == torch.float32


def test_changing_a_weight_changes_no_file(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.float32)
    before = path.read_bytes()
    loaded(path, torch.float32).proj.weight.data.mul_(2)
    assert path.read_bytes() == before


def test_a_value_that_lies_across_its_alignment_is_read_all_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.float32)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    path.write_bytes((length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :])
    net = loaded(path, torch.float32)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in values().items())
    assert pages(path) == 0


@pytest.mark.parametrize("stored", [E4M3, E5M2])
def test_fp8_stays_packed_in_linears_alone(tmp_path: Path, stored: torch.dtype) -> None:
    net, given = loaded(saved(tmp_path, stored), torch.bfloat16), values()
    assert isinstance(net.proj, PackedLinear)
    assert torch.equal(net.proj.weight(torch.float32), given["proj.weight"].to(stored).float())
    for name in ("proj.bias", "scale", "conv.weight", "conv.bias", "table"):
        assert torch.equal(net.state_dict()[name], given[name].to(stored).to(torch.bfloat16)), name
    x = torch.randn(3, 64)
    wanted = nn.functional.linear(x, net.proj.weight(torch.float32), net.proj.bias.float())
    assert torch.equal(net(x), wanted)
    assert net(x.bfloat16()).dtype == torch.bfloat16


def test_packed_weights_outlive_a_change_of_dtype(tmp_path: Path) -> None:
    net = loaded(saved(tmp_path, E4M3), torch.float32)
    before = net(torch.ones(64))
    net.to(torch.bfloat16).to(torch.float32)
    assert isinstance(net.proj, PackedLinear)
    assert net.proj.packed.nbytes == 64 * 8
    assert torch.allclose(net(torch.ones(64)), before, atol=2**-8)  # the bias was rounded


def write_gguf(path: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> None:
    """Matrices of whole blocks in Q8_0, `shapes` folded to rows of 32 with a note of what they were, the rest F32."""
    writer = GGUFWriter(path, "wan")
    for name, tensor in values().items():
        if name in (shapes or {}):
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(tensor.shape))
            tensor = tensor.reshape(-1, 32)
        if tensor.ndim == 2:
            blocks = quantize(tensor.numpy(), GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, blocks, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_blocks_stay_packed_and_five_dimensions_are_read(tmp_path: Path) -> None:
    write_gguf(tmp_path / "net.gguf")
    net, given = loaded(tmp_path / "net.gguf", torch.float32), values()
    assert isinstance(net.proj, PackedLinear)
    assert net.proj.packed.nbytes == 64 * 8 // 32 * 34
    assert (net.proj.weight(torch.float32) - given["proj.weight"]).abs().max() <= given["proj.weight"].abs().max() / 250
    assert torch.equal(net.conv.weight, given["conv.weight"])


def test_a_tensor_that_its_writer_folded_takes_its_shape_again(tmp_path: Path) -> None:
    write_gguf(tmp_path / "net.gguf", {"conv.weight": (4, 2, 1, 2, 2)})
    opened = open_weights(tmp_path / "net.gguf")["conv.weight"]
    assert opened.shape == (4, 2, 1, 2, 2)
    net = loaded(tmp_path / "net.gguf", torch.float32)
    assert torch.allclose(net.conv.weight, values()["conv.weight"], atol=0.02)


def test_shards_load_as_one(tmp_path: Path) -> None:
    given = values()
    save_file({"proj.weight": given.pop("proj.weight")}, tmp_path / "a.safetensors")
    save_file(given, tmp_path / "b.safetensors")
    with torch.device("meta"):
        net = Net()
    load_weights(net, open_weights(tmp_path / "b.safetensors") | open_weights(tmp_path / "a.safetensors"), "net")
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in values().items())


def test_a_single_tensor_has_no_name(tmp_path: Path) -> None:
    torch.save(values()["scale"].bfloat16(), tmp_path / "pos_emb.pt")
    opened = open_weights(tmp_path / "pos_emb.pt")
    assert torch.equal(opened[""].read(), values()["scale"].bfloat16())


def test_within_a_call_of_the_module_a_packed_weight_is_unpacked_once(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self, proj: nn.Module) -> None:
            super().__init__()
            self.proj = proj
            self.seen: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                self.seen.append(self.proj.weight(x.dtype).data_ptr())  # type: ignore[operator]
            if x.isnan().any():
                raise ValueError
            out: Tensor = self.proj(x)
            return out

    net = Twice(loaded(saved(tmp_path, E4M3), torch.float32).proj)
    plain = net(torch.ones(64))
    unpack_once(net)
    assert torch.equal(net(torch.ones(64)), plain)
    assert net.seen[2] == net.seen[3]
    with pytest.raises(ValueError):
        net(torch.full((64,), float("nan")))
    assert isinstance(net.proj, PackedLinear)
    assert net.proj._kept is None
    assert not net.proj.keep


MEASURE = """
import sys, torch
from pathlib import Path
from torch import nn
from engine.weights.load import load_weights, open_weights

def status(field):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024

def load(path, dtype):
    with torch.device("meta"):
        net = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(16)))
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = status("VmRSS")
    load_weights(net, open_weights(path), "net", dtype=getattr(torch, dtype))
    return status("VmHWM") - before - sum(p.nbytes for p in net.state_dict().values())

load(Path(sys.argv[1]), "float32")  # so that what a first conversion needs is there
for path in map(Path, sys.argv[1:]):
    for dtype in ("float16", "bfloat16", "float32"):
        print(path.name, dtype, load(path, dtype))
"""


def test_the_peak_is_the_result_and_a_few_mib(tmp_path: Path) -> None:
    tensors = {f"{i}.weight": torch.zeros(1024, 1024, dtype=torch.float16) + i for i in range(16)}  # 32 MiB
    files = [tmp_path / "net.safetensors", tmp_path / "net.pth"]
    save_file(tensors, files[0])
    torch.save(tensors, files[1])
    done = subprocess.run([sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, check=True)
    beyond = {tuple(line.split()[:2]): int(line.split()[2]) for line in done.stdout.splitlines()}
    assert len(beyond) == 6
    assert {case: over for case, over in beyond.items() if over > 8 * MIB} == {}
