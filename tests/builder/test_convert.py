"""Networks converted to the file that loads fastest: the same values under the same names, and nothing half done."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from builder import convert as converting
from builder.convert import NothingToGain, convert
from builder.tiny.layouts import make
from engine.catalog import Catalog, Model, built_in, locate
from engine.errors import DiskFull
from engine.models.seedvr2.dit import build
from engine.models.wan.dit import WanDiT
from engine.models.wan.names import stays_wide
from engine.pipelines.seedvr2.load import read_checkpoint
from engine.pipelines.wan.load import read_transformer
from engine.weights.load import CheckpointMismatch, load_weights

GAINING = ("3b-pth", "7b-fp16", "comfy-3b-fp16", "wan-t2v-original", "wan-i2v-diffusers", "wan-t2v-comfy-fp16")
READY = ("3b-fp8", "7b-mixed", "3b-q4", "wan-t2v-comfy-fp8_scaled", "wan-i2v-gguf-q4_k_m", "wan-t2v-comfy-bf16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make(folder, [*GAINING, *READY])
    return folder


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Catalog:
    return built_in().with_file(folder / "catalog.toml")


def found(catalog: Catalog, folder: Path, layout: str) -> tuple[Model, Mapping[str, Path]]:
    name = layout if layout.startswith("wan") else f"seedvr2-{layout}"
    model = catalog.find(f"tiny-{name}")
    assert model is not None
    return model, locate(model, [folder]).paths


def loaded(model: Model, paths: list[Path], dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """The network as its pipeline loads it."""
    with torch.device("meta"):
        if model.family == "wan":
            transformer = read_transformer({"dit": paths})
            net: nn.Module = WanDiT(transformer.config)
            weights, wide = transformer.weights, stays_wide
        else:
            checkpoint = read_checkpoint(paths[0])
            net, weights, wide = build(checkpoint.config), checkpoint.weights, lambda name: False
    load_weights(net, weights, paths[0].name, device=torch.device("cpu"), dtype=dtype, wide=wide)
    return net


@pytest.mark.parametrize("layout", GAINING)
def test_a_converted_network_has_the_names_dtypes_and_values_of_the_published_one(
    catalog: Catalog, folder: Path, tmp_path: Path, layout: str
) -> None:
    model, paths = found(catalog, folder, layout)
    path = convert(model, paths, tmp_path)
    assert path == tmp_path / "converted" / f"{model.name}.safetensors"
    published = loaded(model, [paths[file.name] for file in model.network]).state_dict()
    converted = loaded(model, [path]).state_dict()
    assert converted.keys() == published.keys()
    for name, tensor in published.items():
        assert converted[name].dtype == tensor.dtype, name
        assert torch.equal(converted[name], tensor), name


@pytest.mark.parametrize("layout", GAINING)
def test_nothing_of_a_converted_file_changes_its_dtype_when_it_is_loaded(
    catalog: Catalog, folder: Path, tmp_path: Path, layout: str
) -> None:
    model, paths = found(catalog, folder, layout)
    path = convert(model, paths, tmp_path)
    stored = load_file(path)
    assert all(stored[name].dtype == tensor.dtype for name, tensor in loaded(model, [path]).state_dict().items())


@pytest.mark.parametrize("layout", READY)
def test_what_is_packed_or_ready_already_is_left_alone(
    catalog: Catalog, folder: Path, tmp_path: Path, layout: str
) -> None:
    with pytest.raises(NothingToGain):
        convert(*found(catalog, folder, layout), tmp_path)
    assert not list((tmp_path / "converted").iterdir())


def test_prompts_that_a_file_carries_survive(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    model, paths = found(catalog, folder, "comfy-3b-fp16")
    published, converted = load_file(paths[model.files[0].name]), load_file(convert(model, paths, tmp_path))
    for name in ("positive_conditioning", "negative_conditioning"):
        assert torch.equal(converted[name], published[name])


def test_the_same_files_give_the_same_bytes_and_tell_what_they_were(
    catalog: Catalog, folder: Path, tmp_path: Path
) -> None:
    model, paths = found(catalog, folder, "wan-t2v-original")
    first, again = (convert(model, paths, tmp_path / each) for each in ("a", "b"))
    assert first.read_bytes() == again.read_bytes()
    with safe_open(first, "pt") as file:
        origin = json.loads(file.metadata()["converted_from"])
        assert file.metadata()["converted_form"] == converting.FORM
    assert origin == {file.key: hashlib.sha256(paths[file.name].read_bytes()).hexdigest() for file in model.network}


def test_values_begin_at_multiples_of_their_size(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    model, paths = found(catalog, folder, "wan-t2v-original")
    places = read_transformer({"dit": [convert(model, paths, tmp_path)]}).weights.values()
    assert all(stored.offset % stored.dtype.itemsize == 0 for stored in places)
    assert min(stored.offset for stored in places) % converting.ALIGNMENT == 0
    assert len({stored.dtype for stored in places}) == 2


def test_a_converted_network_stands_for_its_shards(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    model, paths = found(catalog, folder, "wan-t2v-original")
    path = convert(model, paths, tmp_path)
    located = locate(model, [tmp_path, folder])
    assert located.paths[model.files[0].name] == path
    assert not located.missing
    assert not {file.name for file in model.network[1:]} & located.paths.keys()


def status(field: str) -> int:
    """Bytes of this process's memory."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def test_a_few_tensors_are_in_memory_at_a_time(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    model, paths = found(catalog, folder, "3b-pth")
    convert(model, paths, tmp_path)  # so that what a first conversion needs is there
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = status("VmRSS")
    path = convert(model, paths, tmp_path)
    assert status("VmHWM") - before < path.stat().st_size / 2


def test_progress_ends_with_the_file(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = convert(*found(catalog, folder, "3b-pth"), tmp_path, progress=lambda *now: told.append(now))
    assert told == sorted(told)
    assert told[-1] == (path.stat().st_size,) * 2


def test_a_conversion_that_breaks_off_leaves_nothing(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(*found(catalog, folder, "3b-pth"), tmp_path, progress=stop)
    assert not list((tmp_path / "converted").iterdir())


def test_a_full_disk_is_told_before_anything_is_written(
    catalog: Catalog, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DiskFull):
        convert(*found(catalog, folder, "3b-pth"), tmp_path)
    assert not list((tmp_path / "converted").iterdir())


def test_a_network_that_lacks_a_tensor_is_refused(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    model, paths = found(catalog, folder, "7b-fp16")
    tensors: dict[str, Tensor] = load_file(paths[model.files[0].name])
    del tensors["vid_out.proj.bias"]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(CheckpointMismatch, match=r"missing vid_out\.proj\.bias"):
        convert(model, {**paths, model.files[0].name: tmp_path / "cut.safetensors"}, tmp_path)


def test_a_small_network_is_left_alone(tmp_path: Path) -> None:
    model = built_in().find("bundled")
    assert model is not None
    with pytest.raises(NothingToGain):
        convert(model, locate(model, []).paths, tmp_path)
