"""The transformer beyond what the goldens say: a peer's opinion, batches, precision, padding, chunks, cancelling."""

import pytest
import torch
from torch import Tensor, nn

from engine.models import onednn
from engine.models.wan import attention, dit
from engine.models.wan.attention import Keys
from engine.models.wan.config import DiTConfig
from engine.models.wan.dit import Context, WanDiT
from engine.weights.load import load_weights
from engine.weights.packed import PackedLinear
from tests.parity.rows import psnr
from tests.parity.wan_dit import by_rule

T2V = DiTConfig("t2v", dim=256, hidden=640, heads=2, layers=4, inputs=16, text_dim=48)
I2V = DiTConfig("i2v", dim=192, hidden=512, heads=4, layers=3, inputs=36, text_dim=48, image_dim=64)
CPU = torch.device("cpu")
both = pytest.mark.parametrize("config", [T2V, I2V], ids=["t2v", "i2v"])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ready(config: DiTConfig, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> WanDiT:
    net = by_rule(config).to(dtype)
    net.prepare(device)
    return net


def context(net: WanDiT, rows: int, seed: int = 0) -> Context:
    picture = None if net.config.image_dim is None else noise(17, net.config.image_dim, seed=seed + 1)
    return net.context(noise(rows, net.config.text_dim, seed=seed), picture)


@both
@torch.inference_mode()
def test_samples_of_a_batch_do_not_know_of_each_other(config: DiTConfig) -> None:
    net, x = ready(config), noise(2, config.inputs, 3, 10, 14)
    contexts, steps = [context(net, 5), context(net, 33, seed=7)], torch.tensor([900.0, 33.3])
    alone = [net(x[i : i + 1], steps[i].item(), contexts[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(net(x, steps, contexts), torch.cat(alone), rtol=0, atol=3e-5)


@both
@torch.inference_mode()
def test_guidance_in_one_batch_is_guidance_in_two_passes(config: DiTConfig) -> None:
    net, x = ready(config), noise(1, config.inputs, 3, 10, 14)
    contexts = [context(net, 5), context(net, 33, seed=7)]
    passes = torch.cat([net(x, 512.5, [each]) for each in contexts])
    torch.testing.assert_close(net(x.expand(2, -1, -1, -1, -1), 512.5, contexts), passes, rtol=0, atol=3e-5)
    torch.testing.assert_close(net(x.repeat(2, 1, 1, 1, 1), 512.5, contexts), passes, rtol=0, atol=3e-5)


@both
@torch.inference_mode()
def test_the_latents_are_left_as_they_were(config: DiTConfig) -> None:
    net, x = ready(config), noise(1, config.inputs, 2, 4, 6)
    before = x.clone()
    net(x, 10.0, [context(net, 4)])
    assert torch.equal(x, before)


@both
@pytest.mark.parametrize("limit", [1, 50, 10**6])
@torch.inference_mode()
def test_chunks_of_any_size_give_the_same(config: DiTConfig, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = ready(config), noise(2, config.inputs, 3, 10, 14)
    contexts = [context(net, 5), context(net, 33, seed=7)]
    wanted = net(x, 700.0, contexts)
    monkeypatch.setattr(dit, "CHUNK_TOKENS_CPU", limit)
    torch.testing.assert_close(net(x, 700.0, contexts), wanted, rtol=0, atol=3e-5)


@both
@pytest.mark.parametrize("rows", [1, 40, 511, 512])
@torch.inference_mode()
def test_one_key_for_all_the_padding_does_what_every_row_of_it_does(config: DiTConfig, rows: int) -> None:
    net, x = ready(config), noise(1, config.inputs, 2, 8, 6)
    text, picture = noise(rows, 48), None if config.image_dim is None else noise(17, 64)
    padded = net.context(torch.cat((text, torch.zeros(512 - rows, 48))), picture)
    assert all(layer[0].k.shape[0] == 512 for layer in padded.layers)
    short = net.context(text, picture)
    assert all(layer[0].k.shape[0] == min(rows + 1, 512) for layer in short.layers)
    torch.testing.assert_close(net(x, 700.0, [short]), net(x, 700.0, [padded]), rtol=0, atol=3e-5)


def test_where_no_kernel_adds_to_logits_the_padding_is_repeated() -> None:
    k, v = torch.empty(2, 6, 3, 8, device="meta")
    assert attention.repeated_last(k, v, 507).k.shape == (512, 3, 8)
    assert attention.repeated_last(k, v, 507).bias is None
    assert isinstance(attention.repeated_last(k, v, 0), Keys)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.inference_mode()
def test_half_the_precision_stays_above_40_db(config: DiTConfig, dtype: torch.dtype) -> None:
    x, got, wanted = noise(1, config.inputs, 3, 20, 30), ready(config, dtype), ready(config)
    out = got(x, 700.0, [context(got, 20)])
    assert out.dtype == torch.float32
    assert psnr(out, wanted(x, 700.0, [context(wanted, 20)])) > 40


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_weights_laid_out_for_a_processor_are_the_same_weights(config: DiTConfig, dtype: torch.dtype) -> None:
    plain, blocked = ready(config, dtype), ready(config, dtype, CPU)
    x = noise(1, config.inputs, 2, 8, 10)
    assert any(isinstance(module, onednn.BlockedLinear) for module in blocked.modules())
    out, wanted = (net(x, 700.0, [context(net, 20)]) for net in (blocked, plain))
    assert psnr(out, wanted) > (120 if dtype == torch.float32 else 50)


@both
@torch.inference_mode()
def test_linear_layers_may_be_packed(config: DiTConfig) -> None:
    weights = dict(by_rule(config).state_dict())
    for name, weight in weights.items():
        if weight.dim() == 2 and name.endswith("weight"):
            weights[name] = weight.to(torch.float8_e4m3fn)
    with torch.device("meta"):
        packed, plain = WanDiT(config), WanDiT(config)
    load_weights(packed, weights, "packed", device=CPU, dtype=torch.float32)
    load_weights(plain, {name: weight.float() for name, weight in weights.items()}, "plain")
    x = noise(1, config.inputs, 2, 8, 10)
    outs = []
    for net in (packed, plain):
        net.prepare(CPU)
        outs.append(net(x, 700.0, [context(net, 20)]))
    assert all(isinstance(block.ffn[0], PackedLinear) for block in packed.layers)
    torch.testing.assert_close(*outs, rtol=0, atol=3e-5)


@both
@torch.inference_mode()
def test_a_pass_that_was_broken_off_leaves_the_network_as_it_was(config: DiTConfig) -> None:
    class Cancelled(Exception):
        pass

    calls = iter(range(config.layers))

    def check() -> None:
        if next(calls) == 2:
            raise Cancelled

    net, x = ready(config), noise(1, config.inputs, 2, 4, 6)
    contexts = [context(net, 4)]
    wanted = net(x, 10.0, contexts)
    with pytest.raises(Cancelled):
        net(x, 10.0, contexts, check)
    assert torch.equal(net(x, 10.0, contexts), wanted)


@torch.inference_mode()
def test_hooks_of_a_layer_surround_its_keys_and_its_step() -> None:
    net, calls = ready(T2V), []
    for index, block in enumerate(net.layers):
        block.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    made = context(net, 4)
    assert calls == [0, 1, 2, 3]
    net(noise(1, 16, 1, 2, 2), 10.0, [made])
    assert calls == [0, 1, 2, 3] * 2


@torch.inference_mode()
def test_what_is_no_context_of_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match="512 rows, not 513"):
        context(ready(T2V), 513)
    with pytest.raises(ValueError, match="picture"):
        ready(I2V).context(noise(4, 48))
    with pytest.raises(ValueError, match="picture"):
        ready(T2V).context(noise(4, 48), noise(17, 64))


@pytest.mark.parametrize(
    "wrong", [{"heads": 3}, {"layers": 0}, {"image_dim": 64}, {"task": "i2v"}, {"times": 5}, {"text_len": 0}]
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    sizes = {"task": "t2v", "dim": 256, "hidden": 640, "heads": 2, "layers": 4, "inputs": 16}
    with pytest.raises(ValueError, match="DiTConfig"):
        DiTConfig(**(sizes | wrong))  # type: ignore[arg-type]


def test_no_module_is_left_on_the_published_names_after_preparing() -> None:
    left = {name for name, _ in ready(T2V).named_parameters() if name.endswith("modulation")}
    assert left == {"head.modulation"}


def test_blocking_leaves_alone_what_it_cannot_serve() -> None:
    assert not onednn.can_block(nn.Linear(4, 4, device="meta"))
    assert not onednn.can_block(nn.Linear(4, 4).half())
    assert not onednn.can_block(nn.GELU())
