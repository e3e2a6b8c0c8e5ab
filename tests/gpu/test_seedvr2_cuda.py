"""SeedVR2 on a GPU: the pictures of a CPU, whatever leaves the GPU meanwhile, in the memory that was planned."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch

from benchmarks.seedvr2.full_size import networks as random_networks
from builder.tiny.weights import CONFIGS, VAE, by_rule, prompt
from engine.frames import RGB24, Frame, Raster
from engine.models.seedvr2.config import DiTConfig
from engine.models.seedvr2.dit import build
from engine.models.seedvr2.norm import FrameNorm
from engine.models.seedvr2.vae import VideoVAE
from engine.models.seedvr2.vae_config import VAE as FULL_VAE
from engine.pipelines.devices import release
from engine.pipelines.protocol import UNWATCHED, Watch
from engine.pipelines.seedvr2.networks import Networks
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.pipeline import SeedVR2
from engine.pipelines.seedvr2.plan import Plan
from engine.pipelines.seedvr2.sampling import draw_noise
from tests.gpu.stopping import Stopped, StoppingIn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SOURCE, TARGET = Raster(40, 24, RGB24), Raster(96, 64, RGB24)
RESIDENT = Plan(batch=5, overlap=0, slice_latents=0, tile=0, tile_overlap=0, offload=False, bytes=0)
OFFLOADED = Plan(batch=5, overlap=0, slice_latents=0, tile=0, tile_overlap=0, offload=True, bytes=0)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """TF32 is what the tolerances of float32 know nothing of."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def tiny(kind: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Networks:
    """The same weights on any device."""
    with torch.device("meta"):
        dit, vae = build(CONFIGS[kind]), VideoVAE(VAE)
    for net in (dit, vae):
        net.load_state_dict({name: w.to(device, dtype) for name, w in by_rule(net).items()}, assign=True)
        net.eval().requires_grad_(False)
    dit.prepare(prompt("positive", 58).to(device))
    vae.prepare()
    return Networks(dit, vae, device, dtype)


def shot(count: int) -> list[Frame]:
    """A smooth picture that moves by a pixel a frame."""
    rows, columns = np.mgrid[0 : SOURCE.height, 0 : SOURCE.width + count]
    waves = [np.sin(rows / 5 + columns / (7 + n)) for n in range(3)]
    codes = (127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    return [Frame((codes[:, n : n + SOURCE.width].copy(),), Fraction(n, 25)) for n in range(count)]


def restored(nets: Networks, count: int = 7, watch: Watch = UNWATCHED) -> np.ndarray:
    options = SeedVR2Options(free_bytes=2**40, batch_size=5, temporal_overlap=2, color_correction="wavelet")
    made = SeedVR2(nets, "tiny")(shot(count), SOURCE, TARGET, options, watch)
    return np.stack([frame.planes[0] for frame in made]).astype(np.float64)


@pytest.mark.parametrize("kind", CONFIGS)
def test_float32_on_cuda_gives_the_pictures_of_a_cpu(kind: str) -> None:
    difference = np.abs(restored(tiny(kind, CUDA)) - restored(tiny(kind, CPU)))
    assert difference.max() <= 1
    assert difference.mean() <= 0.01


@pytest.mark.parametrize("kind", CONFIGS)
def test_half_precision_on_cuda_is_close_to_float32(kind: str) -> None:
    error = restored(tiny(kind, CUDA, torch.bfloat16)) - restored(tiny(kind, CPU))
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 40


def test_noise_is_the_same_on_every_device() -> None:
    ours, other = (draw_noise((2, 3, 5, 16), 7, device) for device in (CPU, CUDA))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(ours, other, strict=True))


def passed(nets: Networks, plan: Plan) -> torch.Tensor:
    clip = torch.linspace(-1, 1, 3 * 5 * 32 * 48, device=CUDA).view(1, 3, 5, 32, 48)
    with torch.inference_mode():
        latent = nets.encode(clip, plan, lambda: None)
        noise, _ = draw_noise(latent.shape[1:], 1, CUDA)
        return nets.decode(nets.restore(latent, noise, plan, lambda: None), plan, lambda: None)


def test_networks_that_leave_the_gpu_in_turn_give_the_same_result() -> None:
    nets = tiny("3b", CUDA)
    resident, offloaded, again = (passed(nets, plan) for plan in (RESIDENT, OFFLOADED, RESIDENT))
    assert torch.equal(resident, offloaded)
    assert torch.equal(resident, again)


def test_a_network_that_rests_is_not_on_the_gpu() -> None:
    nets = tiny("3b", CUDA)
    passed(nets, RESIDENT)  # what is kept for the next clip of that size is there now
    before = torch.cuda.memory_allocated()
    passed(nets, OFFLOADED)
    assert torch.cuda.memory_allocated() <= before - nets.dit_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_frame_norm_of_cuda_is_group_norm(dtype: torch.dtype) -> None:
    norm = FrameNorm(32, 128).to(CUDA, dtype)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
        x = torch.randn(2, 128, 33, 47, device=CUDA).add(3).to(dtype).contiguous(memory_format=torch.channels_last)
        ours = norm(x)
        exact = torch.nn.functional.group_norm(x.double(), 32, norm.weight.double(), norm.bias.double(), norm.eps)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(
        ours.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-4 if dtype == torch.float32 else 1e-2
    )


def test_a_batch_stays_within_the_memory_that_was_planned() -> None:
    config = DiTConfig("3b", dim=768, layers=4, hidden=2048, separate=2)
    nets = random_networks(config, FULL_VAE, CUDA, fp8=False)
    source, target = Raster(480, 270, RGB24), Raster(960, 540, RGB24)
    frames = [Frame((np.full((270, 480, 3), n, np.uint8),), Fraction(n, 25)) for n in range(13)]
    model = SeedVR2(nets, "random")
    model.warm(2**40)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in model(frames, source, target, SeedVR2Options(free_bytes=2**40, batch_size=13)):
        pass
    assert torch.cuda.max_memory_allocated() - before <= model.plan.plan.bytes


@pytest.mark.parametrize("phase", ["encode", "dit", "decode"])
def test_work_that_is_stopped_leaves_nothing_on_the_gpu(phase: str) -> None:
    nets = tiny("3b", CUDA)
    restored(nets)
    before = torch.cuda.memory_allocated()
    with pytest.raises(Stopped):
        restored(nets, watch=StoppingIn(phase))
    release(CUDA)
    assert torch.cuda.memory_allocated() <= before
