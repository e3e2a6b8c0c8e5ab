"""Wan2.1's video autoencoder, beyond the goldens: streams, still clips, precision, memory, names."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.models.handles import Checkpoint
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_blocks import RMSNorm
from engine.models.wan.vae_config import VAE, WanVAEConfig, decode_bytes, encode_bytes
from engine.models.wan.vae_names import diffusers_name, parse
from tests.live_bytes import LiveBytes
from tests.parity.rows import psnr
from tests.parity.wan_vae import wan_vae_by_rule

MANIFESTS = Path(__file__).parents[1] / "data/manifests"
SMALL = WanVAEConfig(8)
ROUNDING = 5e-5


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    return wan_vae_by_rule(SMALL)


@pytest.fixture(scope="module")
def published() -> WanVAE:
    with torch.device("meta"):
        vae = WanVAE(VAE).to(torch.bfloat16)
    vae.prepare()
    return vae


def clip(frames: int, height: int = 32, width: int = 24, batch: int = 1) -> list[Tensor]:
    noise = torch.rand(frames, batch, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return [*noise]


def latents(count: int, height: int = 4, width: int = 3, batch: int = 1) -> Tensor:
    return torch.randn(batch, 16, count, height, width, generator=torch.Generator().manual_seed(2))


def decoded(vae: WanVAE, z: Tensor) -> Tensor:
    return torch.cat([*vae.decode(z)], 2)


def off(got: Tensor, wanted: Tensor) -> float:
    return (got - wanted).abs().max().item()


def breaking_off_after(calls: int) -> Callable[[], None]:
    left = iter(range(calls))

    def check() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return check


def test_a_clip_begins_as_a_shorter_one_does(vae: WanVAE) -> None:
    for count in (1, 2, 3, 4):
        assert off(vae.encode(clip(17))[:, :, :count], vae.encode(clip(17)[: 4 * count - 3])) < ROUNDING
        assert off(decoded(vae, latents(5))[:, :, : 4 * count - 3], decoded(vae, latents(5)[:, :, :count])) < ROUNDING


def test_clips_of_a_batch_are_strangers(vae: WanVAE) -> None:
    x, z = clip(5, batch=2), latents(2, batch=2)
    alone = [vae.encode([frame[n : n + 1] for frame in x]) for n in range(2)]
    assert off(vae.encode(x), torch.cat(alone)) < ROUNDING
    assert off(decoded(vae, z), torch.cat([decoded(vae, one) for one in z.split(1)])) < ROUNDING


def test_frames_come_one_by_one_in_float32_and_clamped(vae: WanVAE) -> None:
    frames = [*vae.decode(latents(3))]
    assert {(frame.shape, frame.dtype) for frame in frames} == {((1, 3, 1, 32, 24), torch.float32)}
    assert len(frames) == 9
    assert max(frame.abs().max().item() for frame in frames) == 1
    assert max(frame.abs().max().item() for frame in vae.unclamped(latents(3))) > 1.01


def test_frames_are_asked_for_only_when_they_are_needed(vae: WanVAE) -> None:
    asked = 0

    def frames():
        nonlocal asked
        for frame in clip(41):
            asked += 1
            yield frame

    counts: list[int] = []
    vae.encode(frames(), lambda: counts.append(asked))
    assert counts[0] <= 4
    assert len(set(counts)) > 15


@pytest.mark.parametrize("frames", [0, 2, 4, 6, 8])
def test_frames_that_make_no_whole_latents_are_refused(vae: WanVAE, frames: int) -> None:
    with pytest.raises(ValueError, match=f"{frames} frames: only 4 n \\+ 1"):
        vae.encode(clip(frames))


@pytest.mark.parametrize("size", [(20, 16), (16, 20)])
def test_sizes_that_have_no_latents_are_refused(vae: WanVAE, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        vae.encode(clip(1, *size))


@pytest.mark.parametrize("frames", [1, 5, 77, 81])
def test_a_still_clip_has_the_bits_of_any_other(vae: WanVAE, frames: int) -> None:
    (picture,) = clip(1)
    plain = vae.encode([picture, *(torch.zeros_like(picture) for _ in range(frames - 1))])
    assert torch.equal(vae.encode_still(picture, frames), plain)


def test_a_still_clip_takes_less_than_a_third_of_the_operations(vae: WanVAE) -> None:
    nine, seventeen = (operations(lambda n=n: vae.encode(clip(n))) for n in (9, 17))
    plain = nine + 9 * (seventeen - nine)  # of 81 frames: each 8 take as much
    assert operations(lambda: vae.encode_still(clip(1)[0], 81)) < plain / 3


def operations(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counted:
        work()
    return counted.get_total_flops()


def test_half_precision_stays_40_db_near(vae: WanVAE) -> None:
    half = wan_vae_by_rule(SMALL, torch.bfloat16)
    x, z = clip(9), latents(3)
    assert half.encode(x).dtype is torch.float32
    assert psnr(half.encode(x), vae.encode(x)) > 40
    assert psnr(decoded(half, z), decoded(vae, z)) > 40


def test_breaking_off_leaves_nothing_behind(vae: WanVAE) -> None:
    x, z = clip(9), latents(3)
    encoded, wanted = vae.encode(x), decoded(vae, z)
    for calls in (0, 5, 40):
        with pytest.raises(KeyboardInterrupt):
            vae.encode([frame + 1 for frame in x], breaking_off_after(calls))
        with pytest.raises(KeyboardInterrupt):
            [*vae.decode(z + 1, breaking_off_after(calls))]
        assert torch.equal(vae.encode(x), encoded)
        assert torch.equal(decoded(vae, z), wanted)


def test_a_decode_that_nobody_reads_on_leaves_nothing_behind(vae: WanVAE) -> None:
    with LiveBytes() as live:
        frames = vae.decode(latents(5))
        next(frames)
        assert live.now > 0
        frames.close()
        assert live.now == 0
    assert off(decoded(vae, latents(5)), decoded(vae, latents(5))) == 0


def test_two_clips_may_be_decoded_in_turns(vae: WanVAE) -> None:
    a, b = latents(3), latents(3) + 1
    pairs = [*zip(vae.decode(a), vae.decode(b), strict=True)]
    for got, z in zip(zip(*pairs, strict=True), (a, b), strict=True):
        assert torch.equal(torch.cat(got, 2), decoded(vae, z))


def test_the_norm_for_cuda_is_the_norm() -> None:
    norm = RMSNorm(24)
    torch.nn.init.normal_(norm.gamma)
    x = torch.cat((latents(1)[:, :, 0].repeat(2, 1, 1, 1), torch.ones(2, 8, 4, 3)), 1)
    x[:, :, 0, 0] = 0
    y = norm.by_rows(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert off(y, norm(x)) < ROUNDING


@pytest.mark.parametrize("rename", [str, diffusers_name])
def test_a_checkpoint_tells_its_width(rename: Callable[[str], str]) -> None:
    with torch.device("meta"):
        for config in (VAE, SMALL):
            ours = WanVAE(config).state_dict()
            weights = {rename(name): weight for name, weight in ours.items()}
            assert parse(weights) == Checkpoint(config, dict(ours))


def test_other_networks_are_not_taken_for_it() -> None:
    for path in (MANIFESTS / "seedvr2/vae.json", *set(MANIFESTS.glob("wan/*.json")) - {MANIFESTS / "wan/vae.json"}):
        shapes = json.loads(path.read_text())
        assert parse({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}) is None
    assert parse({}) is None


def peak(work: Callable[[], object]) -> int:
    with LiveBytes() as live:
        work()
    return live.peak


def pass_by(frames: Iterable[Tensor]) -> None:
    for _ in frames:
        pass


def test_memory_is_told_within_a_tenth(published: WanVAE) -> None:
    height, width = size = 720, 1280
    picture, z = torch.empty(1, 3, *size, device="meta"), torch.empty(1, 16, 5, height // 8, width // 8, device="meta")
    encoding, decoding = peak(lambda: published.encode_still(picture, 33)), peak(lambda: pass_by(published.decode(z)))
    assert 1 <= encode_bytes(VAE, *size, 2) / encoding <= 1.1
    assert 1 <= decode_bytes(VAE, *size, 2) / decoding <= 1.1


def test_memory_does_not_grow_with_a_clip(vae: WanVAE) -> None:
    x, z = clip(21, 16, 16), latents(6, 2, 2)
    assert peak(lambda: vae.encode(x)) < 1.02 * peak(lambda: vae.encode(x[:13]))
    assert peak(lambda: pass_by(vae.decode(z))) < 1.02 * peak(lambda: pass_by(vae.decode(z[:, :, :4])))
