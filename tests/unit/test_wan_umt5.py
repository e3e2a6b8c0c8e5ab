"""UMT5's encoder beside that of transformers, whose weights come to ours through the names modules."""

import math
from collections.abc import Mapping
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import UMT5Config as PeerConfig
from transformers import UMT5EncoderModel

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.umt5 import UMT5, UMT5_XXL, UMT5Config, relative_buckets
from engine.models.wan.umt5_names import Checkpoint, parse
from engine.weights.load import load_weights, open_weights
from engine.weights.stored import Stored
from tests.live_bytes import LiveBytes
from tests.parity.rows import psnr

Q8_0, F32 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F32
CONFIG = UMT5Config(vocab=300, dim=64, inner=96, heads=3, hidden=128, layers=3)
IDS = torch.randint(300, (40,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def peer() -> UMT5EncoderModel:
    """Small, with weights of the size that training would give them."""
    config = PeerConfig(vocab_size=300, d_model=64, d_kv=32, d_ff=128, num_layers=3, num_heads=3)
    net = UMT5EncoderModel(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(tensor_by_rule(name, tuple(parameter.shape)))
    return net


@pytest.fixture(scope="module")
def theirs(peer: UMT5EncoderModel) -> dict[str, Tensor]:
    """Its weights by its own names, each tensor apart."""
    return {name: tensor.clone() for name, tensor in peer.state_dict().items()}


def ours(weights: Mapping[str, Tensor | Stored], dtype: torch.dtype | None = None) -> UMT5:
    checkpoint: Checkpoint[Tensor | Stored] | None = parse(weights)
    assert checkpoint is not None
    with torch.device("meta"):
        net = UMT5(checkpoint.config)
    load_weights(net, checkpoint.weights, "a test's weights", device=torch.device("cpu"), dtype=dtype)
    return net


@torch.inference_mode()
def test_the_features_are_those_of_transformers(peer: UMT5EncoderModel, theirs: dict[str, Tensor]) -> None:
    net = ours(theirs)
    assert net.config == CONFIG
    torch.testing.assert_close(net(IDS), peer(IDS[None]).last_hidden_state[0], atol=2e-5, rtol=0)


@torch.inference_mode()
def test_a_prompt_at_its_length_has_the_rows_of_one_that_is_padded_and_masked(
    peer: UMT5EncoderModel, theirs: dict[str, Tensor]
) -> None:
    padded, mask = torch.zeros(1, 128, dtype=torch.int64), torch.zeros(1, 128, dtype=torch.int64)
    padded[0, :40], mask[0, :40] = IDS, 1
    features = peer(padded, attention_mask=mask).last_hidden_state[0, :40]
    torch.testing.assert_close(ours(theirs)(IDS), features, atol=2e-5, rtol=0)


def test_the_embedding_may_come_under_either_name_or_both(theirs: dict[str, Tensor]) -> None:
    first, second = "shared.weight", "encoder.embed_tokens.weight"
    rest = {name: tensor for name, tensor in theirs.items() if name not in (first, second)}
    table = theirs[first]
    for names in ((first,), (second,), (first, second)):
        assert torch.equal(ours(rest | dict.fromkeys(names, table)).token_embedding.weight, table)


def test_the_tokenizer_that_a_checkpoint_carries_is_taken_out(theirs: dict[str, Tensor]) -> None:
    checkpoint = parse(theirs | {"spiece_model": torch.arange(9, dtype=torch.uint8)})
    assert checkpoint is not None
    assert checkpoint.spiece is not None
    assert checkpoint.spiece.tolist() == list(range(9))
    assert "spiece_model" not in checkpoint.weights


def test_weights_of_another_kind_are_not_taken(theirs: dict[str, Tensor]) -> None:
    assert parse({}) is None
    assert parse({name: tensor for name, tensor in theirs.items() if "relative" not in name}) is None


@torch.inference_mode()
def test_the_file_of_llama_cpp_gives_the_same_features(tmp_path: Path, theirs: dict[str, Tensor]) -> None:
    """As of the same values: names from its own table, matrices in Q8_0, the positions' tables plain."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, CONFIG.layers)
    writer = gguf.GGUFWriter(tmp_path / "umt5.gguf", "t5encoder")
    values = {}
    for name, tensor in theirs.items():
        kind = Q8_0 if tensor.ndim == 2 and "relative" not in name else F32
        stored = gguf.quants.quantize(tensor.numpy(), kind)
        values[name] = torch.from_numpy(gguf.quants.dequantize(stored, kind))
        if name != "encoder.embed_tokens.weight":
            writer.add_tensor(str(names.get_name(name, try_suffixes=(".weight",))), stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    net = ours(open_weights(tmp_path / "umt5.gguf"), torch.float32)
    torch.testing.assert_close(net(IDS), ours(values)(IDS), atol=2e-5, rtol=0)


@torch.inference_mode()
def test_features_in_bfloat16_are_near_those_in_float32(theirs: dict[str, Tensor]) -> None:
    """Of the same weights, which are published in bfloat16: rounding them costs more than computing with them."""
    published = {name: tensor.bfloat16() for name, tensor in theirs.items()}
    assert psnr(ours(published)(IDS), ours(published, torch.float32)(IDS)) > 40


@torch.inference_mode()
def test_matrices_in_fp8_stay_so_and_the_embedding_does_not(tmp_path: Path, theirs: dict[str, Tensor]) -> None:
    file, fp8 = tmp_path / "fp8.safetensors", torch.float8_e4m3fn
    stored = {name: tensor.to(fp8) if tensor.ndim == 2 else tensor for name, tensor in theirs.items()}
    save_file(stored, file)
    net = ours(open_weights(file), torch.float32)
    assert net.layers[0].ffn.fc1.packed.dtype == torch.uint8
    assert net.token_embedding.weight.dtype == torch.float32
    values = {name: tensor.float() for name, tensor in stored.items()}
    torch.testing.assert_close(net(IDS), ours(values)(IDS), atol=2e-5, rtol=0)


def test_buckets_are_those_of_the_papers_logarithm() -> None:
    row = relative_buckets(512, torch.device("cpu"))[0]
    for distance in range(8, 512):
        logarithmic = 8 + int(math.log(distance / 8) / math.log(16) * 8 + 1e-9)
        assert row[distance] == 16 + min(logarithmic, 15)


@torch.inference_mode()
def test_the_check_comes_before_each_layer_and_may_break_off(theirs: dict[str, Tensor]) -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ours(theirs)(IDS, check)
    assert len(calls) == 2


@torch.inference_mode()
def test_the_longest_prompt_takes_little_beside_the_weights() -> None:
    with torch.device("meta"):
        net = UMT5(UMT5_XXL).bfloat16()
        with LiveBytes() as live:
            net(torch.zeros(512, dtype=torch.int64))
    assert sum(parameter.nbytes for parameter in net.parameters()) > 11e9
    assert live.peak < 200 * 2**20


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"layers": 0}])
def test_an_impossible_size_is_refused(wrong: dict[str, int]) -> None:
    sizes = {"vocab": 300, "dim": 64, "inner": 96, "heads": 3, "hidden": 128, "layers": 3}
    with pytest.raises(ValueError, match="at least one of each"):
        UMT5Config(**sizes | wrong)
