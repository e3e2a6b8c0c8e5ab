"""Wan2.1 on a GPU: the videos of a CPU, whatever leaves the GPU meanwhile, in the memory that was planned."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.wan import full_size
from builder.tiny import wan_networks as tiny
from engine.frames import RGB24, Raster
from engine.models.wan.config import DiTConfig, Task
from engine.models.wan.dit import Context
from engine.models.wan.vae_config import VAE, decode_bytes
from engine.pipelines.devices import release
from engine.pipelines.generator import Source
from engine.pipelines.protocol import UNWATCHED, Unwatched, Watch
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.pipeline import Wan
from engine.pipelines.wan.plan import Plan
from engine.pipelines.wan.prompts import Tokenizer
from engine.pipelines.wan.sampling import Denoiser, draw_noise
from engine.pipelines.wan.schedules import schedule
from engine.pipelines.wan.solvers import solver
from tests.gpu.stopping import Stopped, StoppingIn
from tests.parity.rows import psnr
from tests.unit.test_wan_memory import OPTIONS, moving, networks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MIB = 2**20
# Wide enough that weights and work are of the size of allocators' pieces.
WIDE = DiTConfig("t2v", dim=1536, hidden=8960, heads=12, layers=6, inputs=16, text_dim=tiny.TEXT.dim)
MID = replace(OPTIONS, width=512, height=320, frames=17)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """TF32 is what the tolerances of float32 know nothing of."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def wan_of(nets: Networks) -> Wan:
    return Wan(nets, Tokenizer(tiny.tokenizer()), "tiny", negative="", build=lambda loras: lambda device: nets.dit)


def made(nets: Networks, task: str, watch: Watch = UNWATCHED, **changes: Any) -> Tensor:
    """Codes (F, H, W, 3) of a whole run."""
    options = replace(OPTIONS, task=task, **changes)  # type: ignore[arg-type]
    raster = Raster(options.width, options.height, RGB24)
    source = None if task == "t2v" else Source(moving(1 if task == "i2v" else 17, 240, 160), Raster(240, 160, RGB24))
    frames = wan_of(nets)(source, raster, options, watch)
    return torch.from_numpy(np.stack([frame.planes[0] for frame in frames])).float()


def plan(nets: Networks, **changes: Any) -> Plan:
    blocks = nets.dit.config.layers
    everything = Plan(
        stay=tuple(nets.sizes.weights),
        resident=blocks,
        blocks=blocks,
        batched=True,
        tile=0,
        text_on_host=False,
        peaks={},
    )
    return replace(everything, **changes)


@pytest.mark.parametrize("task", ["t2v", "i2v", "v2v"])
def test_float32_on_cuda_gives_the_video_of_a_cpu(task: str) -> None:
    net: Task = "i2v" if task == "i2v" else "t2v"
    difference = (made(networks(net, CUDA), task) - made(networks(net), task)).abs()
    assert difference.max() <= 2
    assert difference.mean() <= 0.02


@pytest.mark.parametrize("task", ["t2v", "i2v"])
def test_a_velocity_in_half_precision_is_close_to_float32(task: Task) -> None:
    wanted, got = (velocity(networks(task, CUDA, dtype)) for dtype in (torch.float32, torch.bfloat16))
    assert psnr(got, wanted) >= 40


@torch.inference_mode()
def velocity(nets: Networks, **changes: Any) -> Tensor:
    """(16, 5, 16, 24) under guidance"""
    config, way = nets.dit.config, plan(nets, **changes)
    x, *rows = seeded((16, 5, 16, 24), (60, config.text_dim), (126, config.text_dim))
    image, given = (None, None) if nets.image is None else seeded((257, tiny.IMAGE.dim), (20, 5, 16, 24))
    nets.bring("dit", way)
    contexts = [nets.context(row, image) for row in rows]
    denoiser: Denoiser[Context] = Denoiser(nets.dit, contexts, 5.0, given, nets.dtype)
    return denoiser.velocity(x, 700.0, batched=way.batched, check=nothing)


def seeded(*shapes: tuple[int, ...]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=draw).to(CUDA) for shape in shapes]


def nothing() -> None:
    pass


def wide(*, fp8: bool = False) -> Networks:
    """Random ones, in bfloat16."""
    weights = full_size.dit_weights(WIDE, CUDA, CUDA, fp8=fp8)
    return full_size.networks(full_size.build_dit(WIDE, weights), VAE, CUDA)


@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
def test_streamed_blocks_give_the_same_bits_and_leave_room(fp8: bool) -> None:
    nets = wide(fp8=fp8)
    wanted = velocity(nets)
    all_there = nets.here_bytes
    for resident in (3, 0):
        assert torch.equal(velocity(nets, resident=resident), wanted)
        assert nets.here_bytes == all_there - (WIDE.layers - resident) * nets.sizes.block
    assert torch.equal(velocity(nets), wanted)
    assert nets.here_bytes == all_there


def test_streaming_holds_two_blocks_beside_those_that_stay() -> None:
    nets = wide()
    velocity(nets)
    whole = peak_of(lambda: velocity(nets))
    for resident in (3, 0):
        gone = WIDE.layers - resident - 2
        assert peak_of(lambda: velocity(nets, resident=resident)) <= whole - gone * nets.sizes.block + 8 * MIB  # noqa: B023 - called at once


def peak_of(work: Any) -> int:
    """Bytes that torch held at most, once whatever the work puts away is put away."""
    work()
    release(CUDA)
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


def test_guidance_in_one_pass_is_guidance_in_two() -> None:
    nets = networks("t2v", CUDA)
    torch.testing.assert_close(velocity(nets), velocity(nets, batched=False), rtol=0, atol=1e-4)


def test_networks_that_take_turns_give_the_same_video() -> None:
    nets = networks("i2v", CUDA)
    wanted = made(nets, "i2v")
    ids = Tokenizer(tiny.tokenizer())("a cat").ids
    with torch.inference_mode():
        rows = nets.encode_text(ids, plan(nets), nothing)
        for stay in ((), ("dit", "vae")):
            assert torch.equal(nets.encode_text(ids, plan(nets, stay=stay), nothing), rows)
            assert nets.text.token_embedding.weight.is_cuda
            nets.bring("vae", plan(nets, stay=stay))
            assert not nets.text.token_embedding.weight.is_cuda
            assert nets.dit.head.head.weight.is_cuda == ("dit" in stay)
    assert torch.equal(made(nets, "i2v"), wanted)


def test_a_text_encoder_on_the_host_reads_as_on_the_gpu_and_takes_nothing_of_it() -> None:
    nets = networks("t2v", CUDA)
    ids = Tokenizer(tiny.tokenizer())("a cat runs over green hills").ids
    with torch.inference_mode():
        wanted = nets.encode_text(ids, plan(nets), nothing)
        nets.bring("vae", plan(nets, stay=()))
        before = torch.cuda.memory_allocated()
        got = nets.encode_text(ids, plan(nets, stay=(), text_on_host=True), nothing)
        assert torch.cuda.memory_allocated() <= before
    torch.testing.assert_close(got, wanted.cpu(), rtol=0, atol=1e-4)


def test_a_step_never_waits_for_the_gpu() -> None:
    nets, levels = networks("t2v", CUDA), schedule("unipc", 4, 3.0)
    way = plan(nets)
    with torch.inference_mode():
        contexts = [nets.context(rows, None) for rows in seeded((60, 64), (126, 64))]
        denoiser: Denoiser[Context] = Denoiser(nets.dit, contexts, 5.0, None, nets.dtype)
        x, steps = draw_noise(5, 16, 24, 0).to(CUDA), solver("unipc", levels)
        for done, timestep in enumerate(levels.timesteps):
            torch.cuda.set_sync_debug_mode("error" if done else "default")  # the first puts tables there
            try:
                nets.bring("dit", way)
                x = steps.step(x, denoiser.velocity(x, timestep, batched=True, check=nothing))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert bool(torch.isfinite(x).all())


class Phases(Unwatched):
    """The most bytes of each phase."""

    def __init__(self) -> None:
        self.name, self.peaks = "", dict[str, int]()

    def phase(self, name: str, done: float) -> None:
        torch.cuda.synchronize()
        self.peaks[self.name], self.name = torch.cuda.max_memory_allocated(), name
        torch.cuda.reset_peak_memory_stats()


@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
def test_each_phase_stays_within_the_memory_that_was_planned(fp8: bool) -> None:
    release(CUDA)
    before = torch.cuda.memory_allocated()
    wan = wan_of(wide(fp8=fp8))
    wan.warm(2**40)
    phases = Phases()
    for _ in wan(None, Raster(MID.width, MID.height, RGB24), MID, phases):
        pass
    phases.phase("", 0)
    for phase, planned in wan.plan.plan.peaks.items():
        assert phases.peaks[phase] - before <= planned, phase


def test_where_memory_is_scarce_the_work_goes_on_with_less_and_the_next_job_is_whole() -> None:
    """The process may hold but half of what decoding takes, and so the decoder stands alone or takes tiles."""
    wan, raster = wan_of(wide()), Raster(MID.width, MID.height, RGB24)
    wan.warm(2**40)
    release(CUDA)
    room = decode_bytes(VAE, MID.height, MID.width, 2) // 2
    total = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + room) / total)
    try:
        frames = [*wan(None, raster, MID)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(frames) == MID.frames
    assert wan.plan.attempts > 1
    assert [note.code for note in wan.notes] == ["REDUCED_PLAN"]
    assert len([*wan(None, raster, MID)]) == MID.frames
    assert wan.plan.attempts == 1


@pytest.mark.parametrize("phase", ["text", "encode", "sample", "decode"])
def test_work_that_is_stopped_leaves_nothing_on_the_gpu(phase: str) -> None:
    nets = networks("i2v", CUDA)
    wan, raster = wan_of(nets), Raster(OPTIONS.width, OPTIONS.height, RGB24)
    made(nets, "i2v")
    release(CUDA)
    before = torch.cuda.memory_allocated()
    with pytest.raises(Stopped):
        source = Source(moving(1, 240, 160), Raster(240, 160, RGB24))
        for _ in wan(source, raster, replace(OPTIONS, task="i2v"), StoppingIn(phase)):
            pass
    del source
    release(CUDA)
    assert torch.cuda.memory_allocated() <= before  # what is remembered of the image lies on the host
