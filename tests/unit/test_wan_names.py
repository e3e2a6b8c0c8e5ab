"""How a checkpoint tells which Wan2.1 transformer it is for, in every published layout, at full size."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from engine.models.wan.config import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig
from engine.models.wan.dit import WanDiT
from engine.models.wan.names import Unsupported, original, parse

DATA = Path(__file__).parent.parent / "data"
CONFIGS = {"t2v_1_3B": T2V_1_3B, "t2v_14B": T2V_14B, "i2v_14B": I2V_14B}
each_network = pytest.mark.parametrize("name", CONFIGS)


@dataclass(frozen=True)
class Handle:
    """A tensor that has not been read."""

    shape: tuple[int, ...]


def manifest(name: str) -> dict[str, Handle]:
    told = json.loads((DATA / "manifests" / "wan" / f"{name}.json").read_text())
    return {key: Handle(tuple(shape)) for key, shape in told.items()}


def diffusers(name: str) -> dict[str, Handle]:
    """The published tensors under Diffusers' names, its keymap of one layer being that of all."""
    task = "i2v" if name.startswith("i2v") else "t2v"
    keys = json.loads((DATA / "goldens" / "wan" / f"keymap_dit_{task}_diffusers.json").read_text())
    layer = re.compile(r"^(blocks\.)\d+\.")
    renamed = {}
    for ours, handle in manifest(name).items():
        number = layer.match(ours)
        theirs = keys[layer.sub(r"\g<1>0.", ours)]
        renamed[theirs if number is None else layer.sub(number[0], theirs)] = handle
    if task == "i2v":
        dim = CONFIGS[name].dim
        renamed |= {f"blocks.{i}.attn2.norm_added_q.weight": Handle((dim,)) for i in range(CONFIGS[name].layers)}
    return renamed


def layouts(name: str) -> dict[str, dict[str, Handle]]:
    plain = manifest(name)
    return {
        "original": plain,
        "prefixed": {f"model.diffusion_model.{key}": handle for key, handle in plain.items()},
        "short prefix": {f"diffusion_model.{key}": handle for key, handle in plain.items()},
        "diffusers": diffusers(name),
    }


@each_network
@pytest.mark.parametrize("layout", ["original", "prefixed", "short prefix", "diffusers"])
def test_every_name_and_shape_of_every_published_layout_is_ours(name: str, layout: str) -> None:
    checkpoint = parse(layouts(name)[layout])
    assert checkpoint is not None
    assert checkpoint.config == CONFIGS[name]
    with torch.device("meta"):
        wanted = {key: tuple(weight.shape) for key, weight in WanDiT(checkpoint.config).state_dict().items()}
    assert {key: handle.shape for key, handle in checkpoint.weights.items()} == wanted


def test_the_published_files_of_diffusers_have_so_many_tensors() -> None:
    assert len(diffusers("t2v_14B")) == 1095
    assert len(diffusers("i2v_14B")) == 1343


def tiny(**changes: int | str | None) -> dict[str, Handle]:
    sizes = {"task": "t2v", "dim": 256, "hidden": 512, "heads": 2, "layers": 2, "inputs": 16, "text_dim": 64}
    with torch.device("meta"):
        net = WanDiT(DiTConfig(**sizes | changes))  # type: ignore[arg-type]
    return {key: Handle(tuple(weight.shape)) for key, weight in net.state_dict().items()}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (tiny() | {"vace_patch_embedding.weight": Handle((256, 96, 1, 2, 2))}, "a VACE network"),
        (tiny(task="i2v", inputs=36, image_dim=64) | {"img_emb.emb_pos": Handle((1, 514, 64))}, "FLF2V"),
        (
            tiny(task="i2v", inputs=36, image_dim=64)
            | {"condition_embedder.image_embedder.pos_embed": Handle((1, 514, 64))},
            "FLF2V",
        ),
        (tiny(inputs=48, outputs=48), "Wan2.2's TI2V network"),
        (tiny(inputs=36), "Wan2.2's image-to-video network"),
        (tiny(task="i2v", inputs=48, image_dim=64), "a Wan network of 48 input channels"),
    ],
)
def test_relatives_are_refused_by_name(weights: dict[str, Handle], words: str) -> None:
    with pytest.raises(Unsupported, match=f"it is .*{words}.*, which this engine does not run"):
        parse(weights)
    with pytest.raises(Unsupported):
        parse({f"model.diffusion_model.{key}": handle for key, handle in weights.items()})


def test_a_tiny_network_is_recognised() -> None:
    checkpoint = parse(tiny(task="i2v", inputs=36, image_dim=64))
    assert checkpoint is not None
    assert checkpoint.config == DiTConfig(
        "i2v", dim=256, hidden=512, heads=2, layers=2, inputs=36, text_dim=64, image_dim=64
    )


def test_names_that_are_nobody_s_are_left_for_the_loader_to_tell() -> None:
    extra = {"blocks.0.attn1.to_z.weight": Handle((1,)), "blocks.0.self_attn.norm_added_q.weight": Handle((1,))}
    checkpoint = parse(tiny() | extra)
    assert checkpoint is not None
    assert checkpoint.weights.keys() == tiny().keys() | extra.keys()


def test_two_layouts_in_one_file_are_left_for_the_loader_to_tell() -> None:
    both = tiny() | {"proj_out.weight": Handle((64, 256))}
    checkpoint = parse(both)
    assert checkpoint is not None
    assert checkpoint.weights.keys() == both.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"patch_embedding.weight": Handle((256, 64))},
        {"patch_embedding.weight": Handle((256, 16, 1, 4, 4))},
        {"patch_embedding.weight": Handle((250, 16, 1, 2, 2))},
        {"head.modulation": Handle((1, 2, 512))},
        {"text_embedding.0.weight": Handle((256, 0))},
    ],
)
def test_other_shapes_are_not_recognised(change: dict[str, Handle]) -> None:
    assert parse(tiny() | change) is None


def test_other_checkpoints_are_not_recognised() -> None:
    assert parse(dict[str, Handle]()) is None
    assert parse({"conv_first.weight": Handle((64, 3, 3, 3))}) is None
    assert parse({key: handle for key, handle in tiny().items() if not key.startswith("blocks")}) is None


def test_layers_are_renamed_like_their_tensors() -> None:
    assert original("blocks.11.attn2.add_k_proj") == "blocks.11.cross_attn.k_img"
    assert original("blocks.11.ffn.net.0.proj.bias") == "blocks.11.ffn.0.bias"
    assert original("proj_out") == "head.head"
    assert original("ffn.net.2.weight") == "ffn.net.2.weight"
