"""LoRA files in every naming become the same weights, and each of their tensors has its place or is told."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.config import DiTConfig
from engine.models.wan.dit import WanDiT
from engine.models.wan.names import original
from engine.weights.load import load_weights, open_all
from engine.weights.lora import Delta, LoraMismatch, apply_loras, read_lora
from engine.weights.packed import PackedLinear

T2V = DiTConfig("t2v", dim=64, hidden=96, heads=2, layers=2, inputs=16, times=32, text_dim=48)
I2V = DiTConfig("i2v", dim=64, hidden=96, heads=2, layers=2, inputs=36, times=32, text_dim=48, image_dim=80)
WIDE = DiTConfig("t2v", dim=128, hidden=96, heads=2, layers=2, inputs=16, times=32, text_dim=48)
LAYERS = ["blocks.0.self_attn.q", "blocks.1.ffn.0", "blocks.1.cross_attn.o", "time_projection.1", "head.head"]
RANK, ALPHA = 4, 2.0
E4M3 = torch.float8_e4m3fn


def shapes(config: DiTConfig = T2V) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in WanDiT(config).state_dict().items()}


def network(dtype: torch.dtype = torch.float32) -> WanDiT:
    with torch.device("meta"):
        net = WanDiT(T2V)
    load_weights(net, {name: tensor_by_rule(name, shape).to(dtype) for name, shape in shapes().items()}, "net")
    return net


def factors(layer: str) -> tuple[Tensor, Tensor]:
    """down, up"""
    outputs, inputs = shapes()[f"{layer}.weight"]
    return tensor_by_rule(f"{layer}.down", (RANK, inputs)), tensor_by_rule(f"{layer}.up", (outputs, RANK))


def kohya(layer: str) -> str:
    return "lora_unet_" + layer.replace(".", "_")


def theirs(layer: str) -> str:
    """Diffusers' name."""
    for ours, name in [("self_attn.q", "attn1.to_q"), ("cross_attn.o", "attn2.to_out.0"), ("ffn.0", "ffn.net.0.proj")]:
        layer = layer.replace(ours, name)
    return layer.replace("time_projection.1", "condition_embedder.time_proj").replace("head.head", "proj_out")


def file(name: Callable[[str], str], down: str, up: str, alpha: bool = True) -> dict[str, Tensor]:
    """A LoRA of all LAYERS. Where the convention knows no alpha, it is in `up`."""
    tensors = {}
    for layer in LAYERS:
        tensors[f"{name(layer)}.{down}.weight"], made = factors(layer)
        tensors[f"{name(layer)}.{up}.weight"] = made if alpha else made * ALPHA / RANK
        if alpha:
            tensors[f"{name(layer)}.alpha"] = torch.tensor(ALPHA)
    return tensors


NAMINGS = {
    "comfy": file("diffusion_model.{}".format, "lora_down", "lora_up"),
    "full": file("model.diffusion_model.{}".format, "lora_down", "lora_up"),
    "bare": file("{}".format, "lora_down", "lora_up"),
    "kohya": file(kohya, "lora_down", "lora_up"),
    "peft": file("diffusion_model.{}".format, "lora_A", "lora_B", alpha=False),
    "peft with an adapter": file("base_model.model.{}".format, "lora_A.default", "lora_B.default", alpha=False),
    "diffusers": file(lambda layer: f"transformer.{theirs(layer)}", "lora_A", "lora_B", alpha=False),
}


def applied(net: WanDiT, *loras: tuple[Mapping[str, Tensor], float]) -> WanDiT:
    apply_loras(net, [(read_lora(tensors, shapes(), original), strength) for tensors, strength in loras])
    return net


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_of_a_lora_gives_the_same_weights(naming: str) -> None:
    base, got = network().state_dict(), applied(network(), (NAMINGS[naming], 0.7)).state_dict()
    for name, weight in base.items():
        if (layer := name.removesuffix(".weight")) in LAYERS:
            down, up = factors(layer)
            weight = weight + 0.7 * ALPHA / RANK * up @ down
        assert torch.allclose(got[name], weight, atol=1e-6), name


def test_without_alpha_the_factor_is_one() -> None:
    (delta,) = read_lora(
        {"head.head.lora_down.weight": torch.ones(RANK, 64), "head.head.lora_up.weight": torch.ones(64, RANK)},
        shapes(),
        original,
    ).values()
    pair = delta.factors()
    assert pair is not None
    assert torch.equal(pair[1], torch.ones(64, RANK))


def test_differences_of_weights_biases_and_modulations_are_scaled_by_the_strength() -> None:
    names = {
        "diffusion_model.blocks.0.norm3.diff": "blocks.0.norm3.weight",
        "diffusion_model.blocks.1.self_attn.q.diff_b": "blocks.1.self_attn.q.bias",
        "diffusion_model.blocks.1.diff_m": "blocks.1.modulation",
        "diffusion_model.patch_embedding.diff": "patch_embedding.weight",
        "head.diff_m": "head.modulation",
    }
    tensors = {key: tensor_by_rule(key, shapes()[name]) for key, name in names.items()}
    base, got = network().state_dict(), applied(network(), (tensors, 0.5)).state_dict()
    for key, name in names.items():
        assert torch.allclose(got[name], base[name] + 0.5 * tensors[key]), name


def test_several_loras_add_up_and_their_sum_is_rounded_once() -> None:
    got = applied(network(torch.bfloat16), (NAMINGS["comfy"], 0.3), (NAMINGS["peft"], 0.4), (NAMINGS["kohya"], -0.7))
    base = network(torch.bfloat16).state_dict()
    for name, weight in got.state_dict().items():
        assert weight.dtype == torch.bfloat16
        assert torch.allclose(weight, base[name], rtol=2**-8, atol=1e-6), name


def test_a_lora_of_a_convolution_is_a_product_of_its_kernels() -> None:
    down, up = torch.randn(RANK, 16, 1, 2, 2), torch.randn(64, RANK, 1, 1, 1)
    tensors = {"patch_embedding.lora_down.weight": down, "patch_embedding.lora_up.weight": up}
    got = applied(network(), (tensors, 1.0)).patch_embedding.weight
    wanted = network().patch_embedding.weight + torch.einsum("or,rithw->oithw", up.flatten(1), down)
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.fixture
def scaled(tmp_path: Path) -> WanDiT:
    """The network from a file in scaled fp8."""
    tensors: dict[str, Tensor] = {"scaled_fp8": torch.zeros(2, dtype=E4M3)}
    for name, shape in shapes().items():
        tensors[name] = tensor_by_rule(name, shape)
        if len(shape) == 2:
            scale = tensors[name].abs().max() / 448
            tensors[name] = (tensors[name] / scale).to(E4M3)
            tensors[f"{name.removesuffix('.weight')}.scale_weight"] = scale
    save_file(tensors, tmp_path / "net.safetensors")
    with torch.device("meta"):
        net = WanDiT(T2V)
    load_weights(net, open_all([tmp_path / "net.safetensors"]), "net", dtype=torch.float32)
    return net


def packed(net: nn.Module, path: str) -> PackedLinear:
    layer = net.get_submodule(path)
    assert isinstance(layer, PackedLinear)
    return layer


def test_a_packed_layer_keeps_its_weight_and_gets_one_side_branch_for_all(scaled: WanDiT) -> None:
    before = {layer: packed(scaled, layer).weight(torch.float32) for layer in LAYERS}
    applied(scaled, (NAMINGS["comfy"], 0.3), (NAMINGS["diffusers"], 0.5))
    for layer in LAYERS:
        down, up = factors(layer)
        got = packed(scaled, layer)
        assert torch.allclose(got.weight(torch.float32), before[layer] + 0.8 * ALPHA / RANK * up @ down, atol=1e-6)
        assert got.packed.nbytes == before[layer].numel()
        assert got.down is not None
        assert got.down.shape == (2 * RANK, down.shape[1])


def test_a_whole_difference_makes_a_packed_layer_an_ordinary_one(scaled: WanDiT) -> None:
    before = packed(scaled, "head.head").weight(torch.float32)
    difference = torch.randn(64, 64)
    applied(scaled, ({"head.head.diff": difference, "head.head.diff_b": torch.ones(64)}, 0.5), (NAMINGS["peft"], 1.0))
    head = scaled.get_submodule("head.head")
    assert isinstance(head, nn.Linear)
    down, up = factors("head.head")
    assert torch.allclose(head.weight, before + 0.5 * difference + ALPHA / RANK * up @ down, atol=1e-6)
    assert torch.allclose(head.bias, tensor_by_rule("head.head.bias", (64,)) + 0.5)


def test_a_lora_runs_in_a_packed_network_as_in_a_plain_one(scaled: WanDiT) -> None:
    plain = network()
    for name, module in scaled.named_modules():
        if isinstance(module, PackedLinear):
            plain.get_submodule(name).weight.data = module.weight(torch.float32)  # type: ignore[union-attr]
    x, text = torch.randn(1, 16, 1, 4, 4), torch.randn(3, 48)
    outs = []
    for net in (plain, scaled):
        with torch.inference_mode():
            applied(net, (NAMINGS["comfy"], 1.0)).prepare()
            outs.append(net(x, 500.0, [net.context(text)]))
    assert torch.allclose(outs[0], outs[1], atol=1e-4)


def test_a_file_is_read_as_tensors_are(tmp_path: Path) -> None:
    save_file({name: tensor.bfloat16() for name, tensor in NAMINGS["comfy"].items()}, tmp_path / "lora.safetensors")
    stored = read_lora(open_all([tmp_path / "lora.safetensors"]), shapes(), original)
    given = read_lora({name: tensor.bfloat16() for name, tensor in NAMINGS["comfy"].items()}, shapes(), original)
    assert stored.keys() == given.keys()
    for name in given:
        ours, wanted = stored[name].factors(), given[name].factors()
        assert ours is not None and wanted is not None
        assert all(torch.equal(a, b) for a, b in zip(ours, wanted, strict=True))


def refused(tensors: Mapping[str, Tensor], config: DiTConfig = T2V) -> dict[str, Delta]:
    return read_lora(tensors, shapes(config), original)


def test_a_lora_for_another_network_is_told_by_a_shape() -> None:
    with pytest.raises(LoraMismatch, match=r"blocks.0.self_attn.q.weight is \(128, 128\), which \(64, 4\) times"):
        refused(NAMINGS["comfy"], WIDE)


def test_a_lora_for_pictures_has_no_place_in_a_network_without() -> None:
    layer = "diffusion_model.blocks.0.cross_attn.k_img"
    tensors = {f"{layer}.lora_down.weight": torch.ones(4, 64), f"{layer}.lora_up.weight": torch.ones(64, 4)}
    assert refused(tensors, I2V).keys() == {"blocks.0.cross_attn.k_img.weight"}
    with pytest.raises(LoraMismatch, match=r"the network has no place for diffusion_model.blocks.0.cross_attn.k_img"):
        refused(tensors)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("head.head.hada_w1_a", "no place for head.head.hada_w1_a"),
        ("head.head.dora_scale", "no place for"),
        ("blocks.7.self_attn.q.lora_down.weight", "no place for"),
        ("lora_te_text_model_q.lora_down.weight", "no place for"),
        ("blocks.0.self_attn.diff_m", "no place for"),
        ("head.head.lora_A.weight", "two tensors for down of head.head.weight"),
        ("text_embedding.0.alpha", "of what it adds to text_embedding.0.weight a part is missing"),
        ("text_embedding.0.lora_up.weight", "a part is missing"),
        ("text_embedding.0.diff", r"text_embedding.0.weight is \(64, 48\), not \(1,\)"),
        ("blocks.0.norm3.diff", r"blocks.0.norm3.weight is \(64,\), not \(1,\)"),
    ],
)
def test_every_tensor_of_a_file_has_its_place_or_is_told(key: str, words: str) -> None:
    with pytest.raises(LoraMismatch, match=words):
        refused(NAMINGS["bare"] | {key: torch.ones(1)})


def test_an_empty_file_is_no_lora() -> None:
    with pytest.raises(LoraMismatch, match="it is empty"):
        refused({})


def test_many_strangers_are_told_in_brief() -> None:
    with pytest.raises(LoraMismatch, match=r"no place for a0, a1, a2, a3, a4 and 95 more$"):
        refused({f"a{i}": torch.ones(1) for i in range(100)})
