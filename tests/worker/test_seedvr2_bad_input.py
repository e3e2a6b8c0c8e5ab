"""Damaged and foreign checkpoints, odd requests, odd clips: what SeedVR2 jobs refuse, and what they serve.

Every damaged file is a real one, made of a tiny checkpoint.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from builder.tiny.layouts import CATALOG, LAYOUTS, VAE
from engine.catalog import DATA
from tests.media import samples
from tests.worker.inside import Inside
from tests.worker.test_bad_input import assert_refused
from tests.worker.tiny import LAYOUT, MODEL, catalog_of, codes, offering

Tensors = dict[str, Tensor]
GONE = "tiny_gone.safetensors"
IQ2_XXS = 16  # of ggml.h
KEY = "blocks.1.attn.proj_out.all.weight"
GGUF_KEY = "blocks.1.mlp.all.proj_in.weight"
VAE_KEY = "decoder.conv_in.bias"


# ---- Ways to damage a file --------------------------------------------------------------------------------------


def whole(file: Path) -> bytes:
    return file.read_bytes()


def cut(file: Path) -> bytes:
    content = file.read_bytes()
    return content[: len(content) * 6 // 10]


def half_written(file: Path) -> bytes:
    """As by a download in pieces of which the first never came: all the bytes, but the first half are zeros."""
    content = file.read_bytes()
    return bytes(len(content) // 2) + content[len(content) // 2 :]


def renamed(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {f"{name}s" if name == key else name: tensor for name, tensor in tensors.items()}


def narrowed(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {key: tensors[key][:-1].clone()}


def spoilt(key: str) -> Callable[[Tensors], Tensors]:
    """One value of the tensor is no number."""

    def spoil(tensors: Tensors) -> Tensors:
        weight = tensors[key].clone()
        weight.view(-1)[0] = torch.nan
        return tensors | {key: weight}

    return spoil


def in_iq2(file: Path) -> bytes:
    """A GGUF file whose header says of a tensor, one of two dimensions, that it is in IQ2_XXS."""
    content = bytearray(file.read_bytes())
    place = content.index(GGUF_KEY.encode()) + len(GGUF_KEY) + 4 + 2 * 8
    content[place : place + 4] = struct.pack("<I", IQ2_XXS)
    return bytes(content)


@dataclass(frozen=True)
class Damaged:
    """A model whose file for `role` was made of `origin`; `words` are what is said of it."""

    name: str
    words: str
    origin: str | Path = LAYOUT.file
    role: Literal["dit", "vae"] = "dit"
    change: Callable[[Tensors], Tensors] | None = None
    rewrite: Callable[[Path], bytes] = whole

    @property
    def file(self) -> str:
        return f"damaged_{self.name}{Path(self.origin).suffix}"

    def write(self, checkpoints: Path, folder: Path) -> tuple[str, str]:
        """Make the file; the names of the model's transformer and autoencoder."""
        origin = checkpoints / self.origin
        if self.change is None:
            (folder / self.file).write_bytes(self.rewrite(origin))
        else:
            save_file(self.change(load_file(origin)), folder / self.file)
        return (self.file, VAE) if self.role == "dit" else (sound(checkpoints, folder, self.name), self.file)


def sound(checkpoints: Path, folder: Path, name: str) -> str:
    """A transformer of the model's own, as a catalog wants it."""
    path = folder / f"sound_{name}.safetensors"
    path.symlink_to(checkpoints / LAYOUT.file)
    return path.name


ESRGAN = next(DATA.glob("*.safetensors"))
GGUF, PTH = LAYOUTS["3b-q8"].file, LAYOUTS["3b-pth"].file
LOADS = [
    Damaged("cut", "it is cut short: it has", rewrite=cut),
    Damaged("cut_gguf", "it is cut short: it has", GGUF, rewrite=cut),
    Damaged("cut_pth", "it is cut short or damaged", PTH, rewrite=cut),
    Damaged("half_written", "its beginning was never written", rewrite=half_written),
    Damaged("empty", "it is empty", rewrite=lambda file: b""),
    Damaged("renamed", f"missing {KEY}; unexpected {KEY}s", change=renamed(KEY)),
    Damaged("renamed_first", "missing vid_in.proj.weight", change=renamed("vid_in.proj.weight")),
    Damaged("narrowed", f"{KEY} is (255, 256), not (256, 256)", change=narrowed(KEY)),
    Damaged("autoencoder", "it is no SeedVR2 transformer", VAE),
    Damaged("esrgan", "it is no SeedVR2 transformer", ESRGAN),
    Damaged("iq2", f"{GGUF_KEY} is of the GGUF type IQ2_XXS, which this engine does not read", GGUF, rewrite=in_iq2),
    Damaged("vae_cut", "it is cut short: it has", VAE, "vae", rewrite=cut),
    Damaged("vae_renamed", f"unexpected {VAE_KEY}s", VAE, "vae", renamed(VAE_KEY)),
    Damaged("vae_foreign", "it is no autoencoder of SeedVR2", LAYOUT.file, "vae"),
]
RUNS = [
    Damaged("nan", "gave values that are no numbers", change=spoilt("vid_out.proj.bias")),
    Damaged("vae_nan", "gave values that are no numbers", VAE, "vae", spoilt("decoder.conv_out.weight")),
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Inside]:
    """One worker for every damaged model: none may hurt the next job."""
    folder = tmp_path_factory.mktemp("shop")
    damaged = folder / "models"
    damaged.mkdir()
    models = {case.name: case.write(checkpoints, damaged) for case in (*LOADS, *RUNS)}
    models["without_vae"] = (sound(checkpoints, damaged, "without_vae"), GONE)
    catalog = (checkpoints / CATALOG, catalog_of(folder / "damaged.toml", models))
    with offering(folder, checkpoints, (MODEL, *models), catalog=catalog, models_dir=(damaged, checkpoints)) as made:
        yield made


def clip(shop: Inside, name: str = "clip.mp4", **options: Any) -> str:
    return shop.offer(samples.video(shop.folder / name, **{"frames": 7, "size": (48, 32), **options}))


def assert_fit(shop: Inside) -> None:
    """The next job on this worker succeeds, and nothing of the last one lies about."""
    assert shop.leftovers() == []
    reply = shop.upscale(id="next", source=clip(shop, frames=1), resolution=32)
    assert (reply.get("status"), reply["output"]["frames"]) == ("completed", 1), reply


# ---- Checkpoints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", LOADS, ids=lambda case: case.name)
def test_a_checkpoint_that_does_not_fit_is_told_by_file_and_key(shop: Inside, case: Damaged) -> None:
    reply = shop.upscale(id=case.name, source=clip(shop), resolution=32, model=case.name)
    assert_refused(shop, reply, "INTERNAL", case.words, retryable=True)
    assert reply["stage"] == "load" and f"{case.file}: " in reply["message"]
    assert "MODELS_DIR" in reply["hint"]
    assert case.name not in shop.ask(action="info")["loaded"]
    assert not (shop.folder / "outputs" / case.name).exists()
    assert_fit(shop)


@pytest.mark.parametrize("case", RUNS, ids=lambda case: case.name)
def test_values_that_are_no_numbers_are_never_a_result(shop: Inside, case: Damaged) -> None:
    reply = shop.upscale(id=case.name, source=clip(shop), resolution=32, batch_size=5, model=case.name)
    assert_refused(shop, reply, "INTERNAL", case.words, retryable=True)
    assert reply["stage"] == "process"
    assert shop.worker.reports[-1]["phase"] == "decode" and shop.worker.reports[-1]["frames_done"] == 0
    assert not (shop.folder / "outputs" / case.name).exists()
    assert_fit(shop)


@pytest.mark.parametrize("action", ["warm", "estimate"])
def test_every_action_tells_of_a_damaged_checkpoint(shop: Inside, action: str) -> None:
    source = {"source": clip(shop)} if action == "estimate" else {}
    reply = shop.ask(action=action, model="cut", **source)
    assert reply["code"] == "INTERNAL" and "damaged_cut.safetensors: cannot be read" in reply["message"]


def test_a_missing_autoencoder_is_named(shop: Inside) -> None:
    reply = shop.upscale(source=clip(shop), resolution=32, model="without_vae")
    assert_refused(shop, reply, "MODEL_NOT_BAKED", f"its image lacks {GONE}", retryable=False)
    assert reply["stage"] == "load"
    facts = {model["name"]: model["missing"] for model in shop.ask(action="info")["models"]}
    assert facts["without_vae"] == [GONE] and facts[MODEL] == []


def test_a_file_of_another_size_than_the_catalog_s_is_not_the_model_s(tmp_path: Path, checkpoints: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for file in LAYOUT.files:
        (models / file).write_bytes(cut(checkpoints / file) if file == VAE else whole(checkpoints / file))
    with offering(tmp_path, checkpoints, models_dir=(models,)) as worker:
        reply = worker.upscale(source=clip(worker), resolution=32)
    assert (reply["code"], reply["stage"]) == ("MODEL_NOT_BAKED", "load") and VAE in reply["message"]


# ---- Requests ---------------------------------------------------------------------------------------------------

REFUSED = [
    ({"batch_size": 0}, "batch_size", "a whole number from 1 to"),
    ({"batch_size": -3}, "batch_size", "not -3"),
    ({"batch_size": 2.5}, "batch_size", "a whole number"),
    ({"batch_size": 5, "temporal_overlap": 5}, "temporal_overlap", "must be less than `batch_size`, which is 5"),
    ({"batch_size": 6, "temporal_overlap": 5}, "temporal_overlap", "which was rounded from 6 to 5"),
    ({"seed": 2**64}, "seed", "a whole number from 0 to 9007199254740991"),
    ({"seed": -1}, "seed", "a whole number from 0"),
    ({"vae_tile_size": 64, "vae_tile_overlap": 64}, "vae_tile_overlap", "less than the tile, which is 64 pixels"),
    ({"color_correction": "sepia"}, "color_correction", "wavelet"),
]


@pytest.mark.parametrize(("fields", "field", "words"), REFUSED, ids=str)
def test_a_wrong_value_is_refused_before_anything_is_fetched(
    shop: Inside, fields: Mapping[str, Any], field: str, words: str
) -> None:
    source = clip(shop)
    shop.web.seen.clear()
    reply = shop.upscale(source=source, **fields)
    assert_refused(shop, reply, "INVALID_INPUT", words, retryable=False)
    assert reply["field"] == field and shop.web.seen == []


SERVED = [
    ({"batch_size": 6}, 5, 1, ["BATCH_ROUNDED"]),
    ({"batch_size": 10_000}, 9, 1, ["BATCH_ROUNDED"]),
    ({"batch_size": 5, "temporal_overlap": 4}, 5, 2, ["OVERLAP_REDUCED"]),
    ({"temporal": False, "temporal_overlap": 3, "prepend_frames": 2}, 1, 0, ["FIELD_IGNORED", "FIELD_IGNORED"]),
    ({"tile": 128}, 9, 1, ["FIELD_IGNORED"]),
    ({"seed": 2**53 - 1}, 9, 1, []),
]


@pytest.mark.parametrize(("fields", "batch", "overlap", "told"), SERVED, ids=str)
def test_a_value_that_cannot_be_kept_is_changed_and_told(
    shop: Inside, fields: Mapping[str, Any], batch: int, overlap: int, told: list[str]
) -> None:
    reply = shop.upscale(source=clip(shop), resolution=32, **fields)
    assert (reply.get("status"), reply["output"]["frames"]) == ("completed", 7), reply
    assert (reply["plan"]["batch_size"], reply["plan"]["temporal_overlap"]) == (batch, overlap)
    assert codes(reply) == told


# ---- Clips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "frames", "resolution", "made"),
    [
        ((16, 16), 3, 16, (16, 16)),
        ((16, 16), 3, 48, (48, 48)),
        ((36, 128), 3, 36, (36, 128)),  # 9:32
        ((128, 36), 2, 36, (128, 36)),
        ((48, 32), 1, 32, (48, 32)),
        ((48, 32), 2, 32, (48, 32)),
        ((2, 2), 2, 16, (16, 16)),
    ],
    ids=str,
)
def test_small_thin_and_short_clips_are_served(
    shop: Inside, size: tuple[int, int], frames: int, resolution: int, made: tuple[int, int]
) -> None:
    reply = shop.upscale(source=clip(shop, "odd.mkv", size=size, frames=frames), resolution=resolution, batch_size=5)
    output = reply["output"]
    assert (output["width"], output["height"], output["frames"]) == (*made, frames)
    assert codes(reply) == []


# ---- Memory -----------------------------------------------------------------------------------------------------


def test_little_memory_gives_the_thriftiest_plan_and_says_so(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "engine.residency.free_host_bytes", lambda: 2**20
    )  # RAM_BUDGET_MB would refuse the model itself
    with offering(tmp_path, checkpoints) as worker:
        given = {"source": clip(worker, frames=2), "output_dims": [272, 32], "batch_size": 5}
        expected = worker.upscale(**given, dry_run=True)
        reply = worker.upscale(**given)
    assert (reply["output"]["frames"], codes(reply)) == (2, ["BATCH_CAPPED"])
    assert (reply["plan"]["batch_size"], reply["plan"]["tile"], reply["plan"]["attempts"]) == (1, 256, 1)
    assert reply["warnings"] == expected["warnings"]
    assert {**expected["plan"], "attempts": 1} == reply["plan"]
