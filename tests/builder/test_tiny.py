"""Every published layout, written small: it opens, is recognised, loads strictly, and runs."""

import hashlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from builder.tiny import k_quants
from builder.tiny.layouts import LAYOUTS, Layout, make
from engine.catalog import built_in, locate
from engine.models.seedvr2 import names, vae_names
from engine.models.seedvr2.dit import DiT3B, DiT7B, build
from engine.models.seedvr2.vae import VideoVAE
from engine.weights.load import load_weights, open_weights
from engine.weights.packed import PackedLinear

each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)

# How far the output may be from that of float32 weights, as a share of its own size. The root mean square of what a
# weight loses is about 2.7 % of it in fp8, 0.5 % in Q8_0, 7 % in Q4_K; through two layers it adds up to twice that.
LOSSES = {"F32": 1e-6, "F16": 1e-3, "F8_E4M3": 0.1, "mixed": 0.1, "Q8_0": 0.01, "Q4_K": 0.15}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make(folder, LAYOUTS)
    return folder


def load(path: Path, dtype: torch.dtype = torch.float32) -> DiT3B | DiT7B:
    """A transformer as a pipeline loads it, with its weights in."""
    checkpoint = names.parse(open_weights(path))
    assert checkpoint is not None
    with torch.device("meta"):
        net = build(checkpoint.config)
    load_weights(net, checkpoint.weights, path.name, device=torch.device("cpu"), dtype=dtype)
    return net.eval()


def run(path: Path, positive: Path, dtype: torch.dtype = torch.float32) -> Tensor:
    """The velocity (B, T, H, W, 16) for noise of the same seed."""
    net = load(path, dtype)
    x = torch.randn(1, 2, 4, 6, 33, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        net.prepare(open_weights(positive)[""].read())
        return net(x)


@each_layout
def test_a_layout_opens_is_recognised_loads_strictly_and_runs(folder: Path, layout: Layout) -> None:
    checkpoint = names.parse(open_weights(folder / layout.file))
    assert checkpoint is not None
    assert checkpoint.config.kind == layout.kind
    assert (checkpoint.positive is not None) == layout.prompts
    positive = folder / "tiny_pos_emb.pt"
    if checkpoint.positive is not None:
        assert torch.equal(checkpoint.positive.read(), open_weights(positive)[""].read())
    exact = run(folder / f"tiny_seedvr2_ema_{layout.kind}.pth", positive)
    got = run(folder / layout.file, positive)
    loss = (got - exact).norm() / exact.norm()
    assert loss <= LOSSES[layout.precision]
    assert loss > 0 or layout.precision == "F32"


@pytest.mark.parametrize("layout", ["3b-q4", "3b-fp8", "7b-mixed"])
def test_a_layout_runs_in_bfloat16(folder: Path, layout: str) -> None:
    file, positive = folder / LAYOUTS[layout].file, folder / "tiny_pos_emb.pt"
    exact, got = run(file, positive), run(file, positive, torch.bfloat16)
    assert (got - exact).norm() / exact.norm() < 0.02  # a few roundings of 2**-9 each


@each_layout
def test_linears_of_small_types_stay_packed_and_all_else_becomes_numbers(folder: Path, layout: Layout) -> None:
    net = load(folder / layout.file, torch.bfloat16)
    packed = {name for name, module in net.named_modules() if isinstance(module, PackedLinear)}
    linears = {name for name, module in net.named_modules() if isinstance(module, torch.nn.Linear)} | packed
    wanted: dict[str, Callable[[str], bool]] = {
        "F32": lambda name: False,
        "F16": lambda name: False,
        "F8_E4M3": lambda name: True,
        "mixed": lambda name: not name.startswith("blocks.1."),
        "Q8_0": lambda name: name.startswith("blocks."),
        "Q4_K": lambda name: name.startswith("blocks."),
    }
    assert packed == set(filter(wanted[layout.precision], linears))
    assert {tensor.dtype for tensor in net.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["3b", "7b"])
def test_the_rotary_table_of_a_file_is_never_used(folder: Path, tmp_path: Path, kind: str) -> None:
    file, positive = folder / f"tiny_seedvr2_ema_{kind}_fp16.safetensors", folder / "tiny_pos_emb.pt"
    spoilt = {
        name: torch.full_like(tensor, float("nan")) if name.endswith("rope.freqs") else tensor
        for name, tensor in load_file(file).items()
    }
    assert any(tensor.isnan().any() for tensor in spoilt.values())
    save_file(spoilt, tmp_path / file.name)
    assert torch.equal(run(tmp_path / file.name, positive), run(file, positive))


@pytest.mark.parametrize("name", ["tiny_ema_vae_fp16.safetensors", "tiny_ema_vae.pth"])
def test_the_autoencoder_loads_and_runs(folder: Path, name: str) -> None:
    weights = vae_names.rename(open_weights(folder / name))
    config = vae_names.recognise(weights)
    assert config is not None
    with torch.device("meta"):
        net = VideoVAE(config)
    load_weights(net, weights, name, dtype=torch.float32)
    net.prepare()
    with torch.inference_mode():
        frames = net.decode(torch.zeros(1, 16, 2, 2, 2))
    assert frames.shape == (1, 3, 5, 16, 16)
    assert frames.isfinite().all()


@each_layout
def test_dtypes_are_those_of_the_published_file(folder: Path, layout: Layout) -> None:
    weights = open_weights(folder / layout.file)
    found: dict[str, set[str]] = {}
    for name, stored in weights.items():
        what = stored.block.name if stored.block else str(stored.dtype).removeprefix("torch.")
        found.setdefault(what, set()).add(name)
    prompts = {"positive_conditioning", "negative_conditioning"}
    assert found.pop("bfloat16", set()) == (prompts if layout.prompts else set())
    assert (
        set(found)
        == {
            "F32": {"float32"},
            "F16": {"float16"},
            "F8_E4M3": {"float8_e4m3fn"},
            "mixed": {"float8_e4m3fn", "float16"},
            "Q8_0": {"Q8_0", "float16"},
            "Q4_K": {"Q4_K", "float16"},
        }[layout.precision]
    )
    if layout.precision == "mixed":
        assert all(name.startswith("blocks.1.") for name in found["float16"])
        assert not any(name.startswith("blocks.1.") for name in found["float8_e4m3fn"])
    if layout.file.endswith(".gguf"):
        assert all(re.match(r"blocks\.\d+\.(attn\.proj|mlp\.)", name) for name in found[layout.precision])
    assert sum(name.endswith("attn.rope.rope.freqs") for name in weights) == 2


@pytest.mark.parametrize("layout", ["3b-q8", "7b-q4"])
def test_a_gguf_has_the_published_fields_and_no_prefix(folder: Path, layout: str) -> None:
    reader = GGUFReader(folder / LAYOUTS[layout].file)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    file_type = 15 if layout == "7b-q4" else 7
    assert fields == {
        "general.architecture": "seedvr",
        "general.quantization_version": 2,
        "general.file_type": file_type,
    }
    assert "vid_in.proj.weight" in {tensor.name for tensor in reader.tensors}


@pytest.mark.parametrize(("kind", "loss"), [("Q4_K", 0.1), ("Q5_K", 0.05), ("Q6_K", 0.025)])
def test_our_blocks_mean_nearly_the_numbers_that_they_were_made_of(kind: k_quants.Kind, loss: float) -> None:
    x = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))
    x[0, :256], x[1, :256], x[2, :256] = 0, 0.5, -0.25
    got = dequantize(k_quants.quantize(x, kind).numpy(), GGMLQuantizationType[kind])
    error = (torch.from_numpy(got) - x).norm() / x.norm()
    assert error < loss  # hand-tuned quantizers lose 7.4 %, 3.7 % and 1.8 %
    assert np.abs(got[0, :256]).max() == 0


def test_a_file_without_mixed_blocks_has_no_metadata(folder: Path) -> None:
    with safe_open(folder / LAYOUTS["7b-fp16"].file, "pt") as file:
        assert file.metadata() is None


def test_the_catalog_names_all_files_with_their_sizes_and_digests(folder: Path) -> None:
    table = tomllib.loads((folder / "catalog.toml").read_text())
    for name, entry in table["file"].items():
        content = (folder / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    catalog = built_in().with_file(folder / "catalog.toml")
    for layout in LAYOUTS:
        model = catalog.find(f"tiny-seedvr2-{layout}")
        assert model is not None
        assert locate(model, [folder]).missing == ()
        assert model.architecture == LAYOUTS[layout].kind


def test_only_the_layouts_that_are_asked_for_are_written(tmp_path: Path) -> None:
    make(tmp_path, ["3b-q8"])
    assert [path.name for path in tmp_path.glob("*seedvr2*")] == ["tiny_seedvr2_ema_3b-Q8_0.gguf"]
    assert {path.name for path in tmp_path.glob("*emb*")} == {"tiny_pos_emb.pt", "tiny_neg_emb.pt"}
