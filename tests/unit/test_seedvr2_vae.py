"""SeedVR2's video autoencoder, beyond the goldens: order of work, precision, memory, and what a checkpoint tells."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.models.seedvr2.norm import FrameNorm
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAE, VAEConfig, decode_bytes, encode_bytes
from engine.models.seedvr2.vae_names import recognise, rename
from tests.live_bytes import LiveBytes
from tests.parity.rows import psnr
from tests.parity.seedvr2_rule import weights_by_rule

DATA = Path(__file__).parents[1] / "data"
SMALL = VAEConfig((32, 64, 64, 64), groups=16)
ROUNDING = 5e-5


def network(dtype: torch.dtype = torch.float32) -> VideoVAE:
    vae = VideoVAE(SMALL)
    vae.load_state_dict(weights_by_rule({name: tensor.shape for name, tensor in vae.state_dict().items()}))
    vae.to(dtype).prepare()
    return vae


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    return network()


def clip(frames: int, height: int = 32, width: int = 24, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def latents(count: int, height: int = 4, width: int = 3, batch: int = 1) -> Tensor:
    return torch.randn(batch, 16, count, height, width, generator=torch.Generator().manual_seed(2))


def off(got: Tensor, wanted: Tensor) -> float:
    return (got - wanted).abs().max().item()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_slices_give_what_the_whole_clip_gives(vae: VideoVAE, count: int) -> None:
    x, z = clip(4 * count - 3), latents(count)
    encoded, decoded = vae.encode(x), vae.decode(z)
    for slice_latents in (1, 2, 3):
        assert off(vae.encode(x, slice_latents), encoded) < ROUNDING
        assert off(vae.decode(z, slice_latents), decoded) < ROUNDING


def test_later_frames_change_nothing_before_them(vae: VideoVAE) -> None:
    assert off(vae.encode(clip(9))[:, :, :2], vae.encode(clip(9)[:, :, :5])) < ROUNDING
    assert off(vae.decode(latents(3))[:, :, :5], vae.decode(latents(3)[:, :, :2])) < ROUNDING


def test_the_first_frame_of_a_clip_is_worked_on_as_an_image(vae: VideoVAE) -> None:
    assert off(vae.encode(clip(5))[:, :, :1], vae.encode(clip(5)[:, :, :1])) < ROUNDING
    assert off(vae.decode(latents(2))[:, :, :1], vae.decode(latents(2)[:, :, :1])) < ROUNDING


def test_clips_of_a_batch_are_strangers(vae: VideoVAE) -> None:
    x, z = clip(5, batch=2), latents(2, batch=2)
    assert off(vae.encode(x), torch.cat([vae.encode(one) for one in x.split(1)])) < ROUNDING
    assert off(vae.decode(z), torch.cat([vae.decode(one) for one in z.split(1)])) < ROUNDING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_40_db_near(vae: VideoVAE, dtype: torch.dtype) -> None:
    half = network(dtype)
    assert half.encode(clip(5)).dtype is dtype
    assert psnr(half.encode(clip(5)), vae.encode(clip(5))) > 40
    assert psnr(half.decode(latents(3)), vae.decode(latents(3))) > 40


def test_16_pixels_are_enough(vae: VideoVAE) -> None:
    assert vae.encode(clip(5, 16, 16)).shape == (1, 16, 2, 2, 2)
    assert vae.decode(latents(2, 2, 2)).shape == (1, 3, 5, 16, 16)


@pytest.mark.parametrize("shape", [(4, 16, 16), (5, 20, 16), (5, 16, 20)])
def test_a_clip_that_has_no_latents_is_refused(vae: VideoVAE, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="4 n \\+ 1"):
        vae.encode(clip(*shape))


def test_breaking_off_leaves_nothing_behind(vae: VideoVAE) -> None:
    wanted = vae.decode(latents(3), 1)
    for calls in (5, 30, 60):
        with pytest.raises(KeyboardInterrupt):
            vae.decode(latents(3) + 1, 1, breaking_off_after(calls))
        assert torch.equal(vae.decode(latents(3), 1), wanted)


def breaking_off_after(calls: int) -> Callable[[], None]:
    left = iter(range(calls))

    def check() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return check


def test_the_norm_for_cuda_is_the_norm() -> None:
    norm = FrameNorm(16, 64)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (latents(1).repeat(2, 4, 1, 1, 1)[:, :, 0] + 3).contiguous(memory_format=torch.channels_last)
    y = norm.without_relayout(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert off(y, norm(x)) < ROUNDING


def test_names_and_shapes_are_the_published_ones() -> None:
    manifest = json.loads((DATA / "manifests/seedvr2/vae.json").read_text())
    with torch.device("meta"):
        weights = VideoVAE(VAE).state_dict()
    assert {name: list(tensor.shape) for name, tensor in weights.items()} == manifest


def test_a_checkpoint_tells_its_sizes() -> None:
    with torch.device("meta"):
        for config in (VAE, SMALL, VAEConfig((32, 32, 32, 32), groups=16)):
            weights = VideoVAE(config).state_dict()
            assert recognise(weights) == config
            assert recognise({name: tensor for name, tensor in weights.items() if "mid_block" not in name}) is None
    assert recognise({}) is None


def test_old_names_of_attention_are_taken() -> None:
    stem = "encoder.mid_block.attentions.0."
    old = {f"{stem}query.weight": 1, f"{stem}proj_attn.bias": 2, "decoder.conv_in.bias": 3}
    assert rename(old) == {f"{stem}to_q.weight": 1, f"{stem}to_out.0.bias": 2, "decoder.conv_in.bias": 3}


@pytest.fixture(scope="module")
def published() -> VideoVAE:
    with torch.device("meta"):
        vae = VideoVAE(VAE).to(torch.bfloat16)
    vae.prepare()
    return vae


SIZES = {"image": (1, 2160, 3840, 0), "clip": (5, 1088, 1920, 0), "clip in slices": (5, 480, 864, 1)}
LONG = {"long": (13, 480, 864, 0), "slices": (13, 480, 864, 1), "double slices": (13, 480, 864, 2)}


@pytest.mark.parametrize("case", [*SIZES, *(pytest.param(case, marks=pytest.mark.slow) for case in LONG)])
def test_memory_is_told_within_a_quarter(published: VideoVAE, case: str) -> None:
    frames, height, width, slice_latents = (SIZES | LONG)[case]
    meta = {"dtype": torch.bfloat16, "device": "meta"}
    x = torch.empty(1, 3, frames, height, width, **meta)
    z = torch.empty(1, 16, (frames - 1) // 4 + 1, height // 8, width // 8, **meta)
    for run, given, told in ((published.encode, x, encode_bytes), (published.decode, z, decode_bytes)):
        with LiveBytes() as live:
            run(given, slice_latents)
        assert 1 <= told(VAE, frames, height, width, slice_latents, 2) / live.peak <= 1.25
