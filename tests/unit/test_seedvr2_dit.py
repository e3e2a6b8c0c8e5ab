"""The transformers beyond what the goldens say: batches, precision, odd sizes, chunks, cancelling."""

import pytest
import torch
from torch import Tensor, nn

from engine.models.seedvr2 import dit
from engine.models.seedvr2.config import DiTConfig
from engine.models.seedvr2.dit import DiT3B, DiT7B
from tests.parity.rows import psnr
from tests.parity.seedvr2_dit import by_rule

TINY_3B = DiTConfig("3b", dim=256, layers=4, hidden=768, separate=2, text_dim=96)
TINY_7B = DiTConfig("7b", dim=256, layers=4, hidden=1024, separate=4, text_dim=96)
both = pytest.mark.parametrize("config", [TINY_3B, TINY_7B], ids=["3b", "7b"])


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def ready(config: DiTConfig, dtype: torch.dtype = torch.float32) -> DiT3B | DiT7B:
    net = by_rule(config).to(dtype)
    net.prepare(noise(6, config.text_dim))
    return net


@both
@pytest.mark.parametrize("size", [(5, 12, 18), (1, 2, 2), (2, 6, 50), (7, 30, 4)])
def test_clips_of_a_batch_do_not_know_of_each_other(config: DiTConfig, size: tuple[int, int, int]) -> None:
    net, x = ready(config), noise(3, *size, 33)
    with torch.inference_mode():
        alone = torch.cat([net(clip[None]) for clip in x])
        torch.testing.assert_close(net(x), alone, rtol=0, atol=2e-5)


@both
@pytest.mark.parametrize("limit", [1, 50, 150, 10**6])
def test_chunks_of_any_size_give_the_same(config: DiTConfig, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = ready(config), noise(2, 5, 12, 18, 33)
    with torch.inference_mode():
        wanted = net(x)
        monkeypatch.setattr(dit, "CHUNK_TOKENS_CPU", limit)
        torch.testing.assert_close(net(x), wanted, rtol=0, atol=2e-5)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_the_precision_stays_above_40_db(config: DiTConfig, dtype: torch.dtype) -> None:
    x = noise(1, 3, 20, 30, 33)
    with torch.inference_mode():
        wanted, got = ready(config)(x), ready(config, dtype)(x)
    assert got.dtype == x.dtype
    assert psnr(got, wanted) > 40


def test_float16_keeps_the_streams_in_float32() -> None:
    net = ready(TINY_7B, torch.float16)
    assert net.prompt.dtype == net.residual_dtype == torch.float32
    net.prompt.fill_(1e6)  # beyond 65504
    net.vid_in.proj.bias.data.fill_(60000)
    for block in net.layers:
        block.ada.video.folded.mul_(100)
    with torch.inference_mode():
        assert net(noise(1, 1, 4, 4, 33)).isfinite().all()


def test_what_changes_in_one_window_reaches_the_others_through_the_prompt() -> None:
    net, x = ready(TINY_3B), noise(1, 9, 4, 4, 33)
    changed = x.clone()
    changed[:, -1] += 1
    with torch.inference_mode():
        difference = (net(changed) - net(x)).abs().amax(dim=(0, 2, 3, 4))
    assert difference.min() > 0
    assert difference.argmax() == 8


@both
def test_what_preparing_was_for_is_freed(config: DiTConfig) -> None:
    net = ready(config)
    left = {name.split(".")[0] for name, _ in net.named_parameters()}
    assert left == {"vid_in", "blocks", "vid_out"}
    assert not any("ada" in name for name, _ in net.named_parameters())


@both
def test_linear_layers_may_be_of_another_kind(config: DiTConfig) -> None:
    x = noise(1, 2, 6, 8, 33)
    net = by_rule(config)
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.Linear):
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, Sealed(layer))
    net.prepare(noise(6, config.text_dim))
    with torch.inference_mode():
        torch.testing.assert_close(net(x), ready(config)(x), rtol=0, atol=2e-5)


class Sealed(nn.Module):
    """A linear layer whose weights nobody may read."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._call = linear.forward

    def forward(self, x: Tensor) -> Tensor:
        return self._call(x)


@both
def test_a_pass_can_be_broken_off_between_layers(config: DiTConfig) -> None:
    class Cancelled(Exception):
        pass

    calls = iter(range(3))

    def check() -> None:
        if next(calls) == 2:
            raise Cancelled

    with torch.inference_mode(), pytest.raises(Cancelled):
        ready(config)(noise(1, 1, 4, 4, 33), check)


@pytest.mark.parametrize(
    "sizes",
    [
        ("3b", 200, 4, 768, 2),
        ("3b", 0, 4, 768, 2),
        ("3b", 256, 4, 768, 4),
        ("3b", 256, 0, 768, 0),
        ("3b", 256, 4, 0, 2),
        ("3b", 256, 4, 768, -1),
        ("7b", 256, 4, 1024, 2),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: tuple[str, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"layer|width"):
        DiTConfig(*sizes)  # type: ignore[arg-type]
