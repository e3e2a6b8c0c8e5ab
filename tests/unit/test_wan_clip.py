"""CLIP's vision transformer beside that of transformers, whose weights come to ours through the names module."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig as PeerConfig
from transformers import CLIPVisionModelWithProjection

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.clip import VIT_H, CLIPConfig, CLIPVision, clip_pixels
from engine.models.wan.clip_names import Checkpoint, parse
from engine.weights.load import load_weights, open_weights
from engine.weights.stored import Stored
from tests.live_bytes import LiveBytes
from tests.parity.rows import psnr

CONFIG = CLIPConfig(dim=160, heads=2, hidden=320, layers=2)
PIXELS = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def peer() -> CLIPVisionModelWithProjection:
    """Small, with heads as wide as the published one's."""
    config = PeerConfig(
        hidden_size=160,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=224,
        patch_size=14,
        hidden_act="gelu",
        projection_dim=8,
    )
    net = CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(tensor_by_rule(name, tuple(parameter.shape)))
    return net


@pytest.fixture(scope="module")
def theirs(peer: CLIPVisionModelWithProjection) -> dict[str, Tensor]:
    """Its weights as its published files have them."""
    return {name: tensor.clone() for name, tensor in peer.state_dict().items()} | {
        "vision_model.embeddings.position_ids": torch.arange(257)[None]
    }


@pytest.fixture(scope="module")
def upstreams(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as Wan2.1's own file has them."""
    parts = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj"}
    parts |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
    weights = {
        "log_scale": torch.zeros(()),
        "textual.token_embedding.weight": torch.zeros(4, 4),
        "visual.cls_embedding": theirs["vision_model.embeddings.class_embedding"][None, None],
        "visual.pos_embedding": theirs["vision_model.embeddings.position_embedding.weight"][None],
        "visual.patch_embedding.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.head": theirs["visual_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        weights[f"visual.pre_norm.{kind}"] = theirs[f"vision_model.pre_layrnorm.{kind}"]
        weights[f"visual.post_norm.{kind}"] = theirs[f"vision_model.post_layernorm.{kind}"]
        for layer in range(3):
            old, new = f"vision_model.encoder.layers.{layer}", f"visual.transformer.{layer}"
            weights |= {f"{new}.{b}.{kind}": theirs[f"{old}.{a}.{kind}"] for a, b in parts.items()}
            qkv = [theirs[f"{old}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            weights[f"{new}.attn.to_qkv.{kind}"] = torch.cat(qkv)
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def ours(weights: Mapping[str, Tensor | Stored], dtype: torch.dtype = torch.float32) -> CLIPVision:
    checkpoint: Checkpoint[Tensor | Stored] | None = parse(weights)
    assert checkpoint is not None
    assert checkpoint.config == CONFIG
    with torch.device("meta"):
        net = CLIPVision(checkpoint.config)
    load_weights(net, checkpoint.weights, "a test's weights", device=torch.device("cpu"), dtype=dtype)
    return net


@torch.inference_mode()
def test_the_features_are_the_last_but_one_of_transformers(
    peer: CLIPVisionModelWithProjection, theirs: dict[str, Tensor]
) -> None:
    wanted = peer(PIXELS, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(ours(theirs)(PIXELS), wanted, atol=2e-5, rtol=0)


@torch.inference_mode()
def test_transformers_names_may_lack_their_prefix(theirs: dict[str, Tensor]) -> None:
    bare = {name.removeprefix("vision_model."): tensor for name, tensor in theirs.items()}
    assert torch.equal(ours(bare)(PIXELS), ours(theirs)(PIXELS))


@torch.inference_mode()
@pytest.mark.parametrize("stored", [False, True])
def test_wans_own_file_gives_the_same_features(
    stored: bool, tmp_path: Path, theirs: dict[str, Tensor], upstreams: dict[str, Tensor]
) -> None:
    file = tmp_path / "clip.safetensors"
    save_file(upstreams, file)
    assert torch.equal(ours(open_weights(file) if stored else upstreams)(PIXELS), ours(theirs)(PIXELS))


@torch.inference_mode()
def test_transformers_file_is_read_from_where_it_lies(tmp_path: Path, theirs: dict[str, Tensor]) -> None:
    file = tmp_path / "clip_vision_h.safetensors"
    save_file({name: t.half() if t.is_floating_point() else t for name, t in theirs.items()}, file)
    assert psnr(ours(open_weights(file))(PIXELS), ours(theirs)(PIXELS)) > 60


def test_weights_of_another_kind_are_not_taken(theirs: dict[str, Tensor]) -> None:
    assert parse({}) is None
    assert parse({"patch_embedding.weight": torch.zeros(1, 16, 1, 2, 2)}) is None  # Wan2.1's own transformer
    assert parse({name: tensor for name, tensor in theirs.items() if "patch" not in name}) is None


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "decibels"), [(torch.bfloat16, 40), (torch.float16, 55)])
def test_features_in_16_bits_are_near_those_in_float32(
    dtype: torch.dtype, decibels: float, theirs: dict[str, Tensor]
) -> None:
    features = ours(theirs, dtype)(PIXELS)
    assert features.dtype == dtype
    assert psnr(features, ours(theirs)(PIXELS)) > decibels


def test_pixels_are_not_clamped_and_of_no_aspect() -> None:
    edge = torch.full((1, 3, 20, 300), -1.0)
    edge[..., 150:] = 1
    pixels = clip_pixels(edge)
    assert pixels.shape == (1, 3, 224, 224)
    white, black = clip_pixels(torch.ones(1, 3, 9, 9)), clip_pixels(-torch.ones(1, 3, 9, 9))
    assert (pixels > white).any()  # bicubic overshoots at an edge
    assert (pixels < black).any()
    torch.testing.assert_close(pixels[..., :100], black[..., :100])


def test_pixels_of_a_picture_of_that_size_are_only_normalised() -> None:
    picture = torch.rand(1, 3, 224, 224) * 2 - 1
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073))[:, None, None]
    spread = torch.tensor((0.26862954, 0.26130258, 0.27577711))[:, None, None]
    torch.testing.assert_close(clip_pixels(picture), ((picture + 1) / 2 - mean) / spread)


@pytest.mark.parametrize("layout", ["rows", "channels last"])
def test_a_huge_picture_takes_no_second_one(layout: str) -> None:
    picture = torch.empty(1, 3, 20_000, 20_000, device="meta")
    if layout == "channels last":
        picture = torch.empty(1, 20_000, 20_000, 3, device="meta").permute(0, 3, 1, 2)
    with LiveBytes() as live:
        clip_pixels(picture)
    assert live.peak < 8 * 2**20


@torch.inference_mode()
def test_the_published_size_takes_little_beside_its_weights() -> None:
    with torch.device("meta"):
        net = CLIPVision(VIT_H).half()
        with LiveBytes() as live:
            net(torch.empty(1, 3, 224, 224))
    assert live.peak < 32 * 2**20


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="heads of one width"):
        CLIPConfig(dim=160, heads=3, hidden=320, layers=2)
