"""Every published layout of Wan2.1, written small: each network opens, is recognised, loads strictly, and runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builder.tiny import wan_networks
from builder.tiny.layouts import make
from builder.tiny.wan_layouts import ARCHITECTURES, KINDS, LAYOUTS
from engine.catalog import Catalog, Model, built_in, locate
from engine.models.wan import clip_names, names, umt5_names, vae_names
from engine.models.wan.clip import CLIPVision
from engine.models.wan.dit import WanDiT
from engine.models.wan.umt5 import UMT5
from engine.models.wan.vae import WanVAE
from engine.pipelines.wan.negative import default_negative
from engine.pipelines.wan.prompts import Tokenizer
from engine.weights.load import load_weights, open_all
from engine.weights.lora import apply_loras, read_lora
from engine.weights.packed import PackedLinear
from engine.weights.stored import Stored

each_layout = pytest.mark.parametrize("layout", LAYOUTS)
# Others share the files of one of these.
each_publisher = pytest.mark.parametrize(
    "layout",
    ["wan-i2v-original", "wan-i2v-comfy-fp16", "wan-t2v-comfy-fp8_scaled", "wan-i2v-diffusers", "wan-t2v-gguf-q8_0"],
)

# How far the velocity may be from that of float32 weights, as a share of its own size. The root mean square of what a
# weight loses is about 2.7 % in fp8, 0.5 % in Q8_0, 2, 4 and 7 % in Q6_K, Q5_K and Q4_K; two layers add up.
LOSSES = {
    "original": 1e-6,
    "comfy-fp16": 2e-3,
    "comfy-bf16": 0.01,
    "comfy-fp8_e4m3fn": 0.1,
    "comfy-fp8_scaled": 0.1,
    "diffusers": 1e-6,
    "gguf-q4_k_m": 0.15,
    "gguf-q5_k_m": 0.08,
    "gguf-q6_k": 0.04,
    "gguf-q8_0": 0.02,
}
BLOCKS, ALL = "blocks.", ""
PACKED = {"comfy-fp8_e4m3fn": ALL, "comfy-fp8_scaled": ALL} | {k: BLOCKS for k in KINDS if k.startswith("gguf")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make(folder, LAYOUTS)
    return folder


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Catalog:
    return built_in().with_file(folder / "catalog.toml")


def model_of(catalog: Catalog, layout: str) -> Model:
    model = catalog.find(f"tiny-{layout}")
    assert model is not None
    return model


def paths(catalog: Catalog, folder: Path, layout: str, role: str) -> list[Path]:
    model = model_of(catalog, layout)
    located = locate(model, [folder])
    return [located.paths[file.name] for file in model.files if file.role == role]


def loaded(net: Callable[[], nn.Module], weights: Mapping[str, Tensor | Stored]) -> Any:
    with torch.device("meta"):
        made = net()
    load_weights(made, weights, "a tiny checkpoint", device=torch.device("cpu"), dtype=torch.float32)
    return made.eval()


def transformer(files: list[Path]) -> WanDiT:
    checkpoint = names.parse(open_all(files))
    assert checkpoint is not None
    assert checkpoint.config == wan_networks.DITS[checkpoint.config.task]
    net: WanDiT = loaded(lambda: WanDiT(checkpoint.config), checkpoint.weights)
    return net


def velocity(net: WanDiT) -> Tensor:
    seed = torch.Generator().manual_seed(1)
    x, text = (torch.randn(shape, generator=seed) for shape in ((1, net.config.inputs, 2, 4, 6), (5, 64)))
    image = None if net.config.image_dim is None else torch.randn(257, net.config.image_dim, generator=seed)
    with torch.inference_mode():
        net.prepare()
        return net(x, 500.0, [net.context(text, image)])


@pytest.fixture(scope="module")
def exact(catalog: Catalog, folder: Path) -> dict[str, Tensor]:
    """The velocities of the original files, by task."""
    files = {task: paths(catalog, folder, f"wan-{task}-original", "dit") for task in ARCHITECTURES}
    return {task: velocity(transformer(each)) for task, each in files.items()}


@each_layout
def test_a_layout_s_files_are_all_there_and_its_catalog_says_what_they_are(
    catalog: Catalog, folder: Path, layout: str
) -> None:
    model, (task, _) = model_of(catalog, layout), LAYOUTS[layout]
    assert model.architecture == ARCHITECTURES[task]
    assert locate(model, [folder]).missing == ()


@each_layout
def test_the_transformer_of_a_layout_gives_the_velocity_of_the_original(
    catalog: Catalog, folder: Path, exact: Mapping[str, Tensor], layout: str
) -> None:
    task, kind = LAYOUTS[layout]
    got = velocity(transformer(paths(catalog, folder, layout, "dit")))
    loss = (got - exact[task]).norm() / exact[task].norm()
    assert loss <= LOSSES[kind]
    assert loss > 0 or LOSSES[kind] == 1e-6


@each_layout
def test_linears_of_small_types_stay_packed_and_all_else_becomes_numbers(
    catalog: Catalog, folder: Path, layout: str
) -> None:
    net = transformer(paths(catalog, folder, layout, "dit"))
    packed = {name for name, module in net.named_modules() if isinstance(module, PackedLinear)}
    linears = {name for name, module in net.named_modules() if isinstance(module, nn.Linear)} | packed
    start = PACKED.get(LAYOUTS[layout][1])
    assert packed == {name for name in linears if start is not None and name.startswith(start)}


@each_publisher
def test_the_text_encoder_and_the_tokenizer_of_a_layout_belong_together(
    catalog: Catalog, folder: Path, layout: str
) -> None:
    checkpoint = umt5_names.parse(open_all(paths(catalog, folder, layout, "text_encoder")))
    assert checkpoint is not None
    assert checkpoint.config == wan_networks.TEXT
    files = paths(catalog, folder, layout, "tokenizer")
    assert (checkpoint.spiece is None) == bool(files)
    spiece = files[0].read_bytes() if checkpoint.spiece is None else checkpoint.spiece.read().numpy().tobytes()
    tokenizer = Tokenizer(spiece)
    assert tokenizer.size <= checkpoint.config.vocab
    net = loaded(lambda: UMT5(checkpoint.config), checkpoint.weights)
    exact = loaded(lambda: UMT5(wan_networks.TEXT), wan_networks.text_encoder())
    ids = torch.tensor(tokenizer("a cat runs over green hills").ids)
    with torch.inference_mode():
        got, wanted = net(ids), exact(ids)
    assert (got - wanted).norm() / wanted.norm() < 0.1


@each_publisher
def test_the_autoencoder_of_a_layout_is_the_original(catalog: Catalog, folder: Path, layout: str) -> None:
    parsed = vae_names.parse(open_all(paths(catalog, folder, layout, "vae")))
    assert parsed is not None
    assert parsed.config == wan_networks.VAE
    got = loaded(lambda: WanVAE(parsed.config), parsed.weights).state_dict()
    for name, tensor in wan_networks.autoencoder().items():
        assert torch.allclose(got[name], tensor, rtol=2**-8), name


@pytest.mark.parametrize("layout", ["wan-i2v-original", "wan-i2v-comfy-fp16", "wan-i2v-diffusers"])
def test_the_image_encoder_of_a_layout_runs(catalog: Catalog, folder: Path, layout: str) -> None:
    checkpoint = clip_names.parse(open_all(paths(catalog, folder, layout, "image_encoder")))
    original = clip_names.parse(wan_networks.image_encoder())
    assert checkpoint is not None and original is not None
    assert checkpoint.config == original.config == wan_networks.IMAGE
    got = loaded(lambda: CLIPVision(checkpoint.config), checkpoint.weights).state_dict()
    for name, tensor in original.weights.items():
        assert torch.allclose(got[name], tensor, rtol=2**-10, atol=1e-6), name
    assert wan_networks.DITS["i2v"].image_dim == wan_networks.IMAGE.dim


def test_the_tensors_of_a_layout_have_the_published_types(catalog: Catalog, folder: Path) -> None:
    def types(layout: str, role: str = "dit") -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, stored in open_all(paths(catalog, folder, layout, role)).items():
            what = stored.block.name if stored.block else str(stored.dtype).removeprefix("torch.")
            found.setdefault(what, set()).add(name)
        return found

    assert types("wan-i2v-original").keys() == types("wan-i2v-diffusers").keys() == {"float32"}
    fp16 = types("wan-t2v-comfy-fp16")
    assert fp16.keys() == {"float16", "float32"}
    assert fp16["float32"] == {
        "model.diffusion_model.patch_embedding.weight",
        "model.diffusion_model.patch_embedding.bias",
    }
    assert types("wan-i2v-comfy-fp16").keys() == {"float16"}
    assert types("wan-t2v-comfy-bf16").keys() == {"bfloat16"}
    assert types("wan-t2v-comfy-fp8_scaled").keys() == {"float8_e4m3fn", "float16"}
    assert types("wan-t2v-comfy-fp8_scaled", "text_encoder").keys() == {"float8_e4m3fn", "float16", "uint8"}
    assert types("wan-t2v-gguf-q4_k_m").keys() == {"Q4_K", "Q6_K", "float32", "float16"}
    assert types("wan-t2v-gguf-q5_k_m").keys() == {"Q5_K", "Q6_K", "float32", "float16"}
    q8 = types("wan-i2v-gguf-q8_0")
    assert all(name.startswith("blocks.") for name in q8["Q8_0"])
    assert {"patch_embedding.weight", "blocks.0.modulation", "head.modulation"} <= q8["float32"]
    patches = open_all(paths(catalog, folder, "wan-i2v-gguf-q8_0", "dit"))["patch_embedding.weight"]
    assert patches.shape == (256, 36, 1, 2, 2)


def test_upstream_s_negative_prompt_is_among_the_files(catalog: Catalog, folder: Path) -> None:
    t2v = paths(catalog, folder, "wan-t2v-original", "negative_prompt")
    i2v = paths(catalog, folder, "wan-i2v-original", "negative_prompt")
    assert default_negative(t2v, "t2v") == "noise and rain"
    assert default_negative(i2v, "i2v") == "shaking, noise and rain"


@pytest.mark.parametrize("task", ["t2v", "i2v"])
def test_each_network_has_a_lora_that_changes_it(catalog: Catalog, folder: Path, task: str) -> None:
    lora = catalog.find_lora(f"tiny-wan-{task}-lora")
    assert lora is not None
    assert lora.fits(model_of(catalog, f"wan-{task}-original"))
    file = locate(lora, [folder]).paths[lora.file.name]
    dit = paths(catalog, folder, f"wan-{task}-comfy-fp8_scaled", "dit")
    plain, changed = transformer(dit), transformer(dit)
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in WanDiT(plain.config).state_dict().items()}
    apply_loras(changed, [(read_lora(open_all([file]), shapes, names.original), 1.0)])
    before, after = velocity(plain), velocity(changed)
    assert (after - before).norm() / before.norm() > 0.1


def test_only_the_layouts_that_are_asked_for_are_written(tmp_path: Path) -> None:
    make(tmp_path, ["wan-t2v-comfy-fp8_scaled"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "catalog.toml",
        "tiny_wan2.1_t2v_fp8_scaled.safetensors",
        "tiny_umt5_fp8_scaled.safetensors",
        "tiny_wan_2.1_vae.safetensors",
        "tiny_shared_config.py",
        "tiny_wan_t2v_lora.safetensors",
    }
