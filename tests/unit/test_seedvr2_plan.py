"""Plans of SeedVR2: what fits, what is stepped down to, and what a caller's wishes leave of it."""

from itertools import pairwise

import pytest
import torch

from engine.frames import RGB24, Raster
from engine.models.seedvr2.config import DIT_3B, DIT_7B, DiTConfig
from engine.models.seedvr2.vae_config import VAE
from engine.pipelines.seedvr2.estimate import estimate
from engine.pipelines.seedvr2.memory import Footprint, matrix_parameters
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.plan import batch_sizes, begin, following, ladder, overridden, shared_frames

GIB = 2**30
FP8_3B, CONTEXT = int(3.2 * GIB), int(0.6 * GIB)


def footprint(width: int, height: int, options: SeedVR2Options, dit: DiTConfig = DIT_3B, gpu: bool = True) -> Footprint:
    return Footprint.of(
        dit,
        VAE,
        Raster(width // 2, height // 2, RGB24),
        Raster(width, height, RGB24),
        options,
        dtype=torch.bfloat16,
        device=torch.device("cuda" if gpu else "cpu"),
        dit_weights=FP8_3B,
        vae_weights=GIB // 2,
    )


def asked(free: float = 1000, **wanted: object) -> SeedVR2Options:
    return SeedVR2Options(free_bytes=int(free * GIB), **wanted)  # type: ignore[arg-type]


def test_4k_fits_into_16_gb_with_batches_that_do_not_flicker() -> None:
    options = asked((16e9 - FP8_3B - GIB / 2 - CONTEXT) / GIB)
    plan = begin(ladder(footprint(3840, 2160, options), options), options)
    assert plan.bytes <= options.free_bytes
    assert plan.batch >= 5
    assert not plan.offload


@pytest.mark.parametrize("free", [1, 4, 10, 30, 100])
def test_the_plan_begun_with_is_the_first_that_fits(free: float) -> None:
    options = asked(free)
    plans = ladder(footprint(1920, 1080, options), options)
    first = begin(plans, options)
    assert all(plan.bytes > options.free_bytes for plan in plans[: plans.index(first)])
    assert first.bytes <= options.free_bytes or first == plans[-1]


def test_each_step_down_takes_clearly_less_and_the_last_has_none() -> None:
    options = asked()
    plans = ladder(footprint(1920, 1080, options), options)
    steps = [plans[0]]
    while (thriftier := following(plans, steps[-1])) is not None:
        steps.append(thriftier)
    assert len(steps) > 5
    assert all(after.bytes <= 0.9 * before.bytes for before, after in pairwise(steps))
    assert len(set(steps)) == len(steps)


def test_a_processor_has_nowhere_to_offload_to() -> None:
    options = asked()
    assert not any(plan.offload for plan in ladder(footprint(640, 360, options, gpu=False), options))
    assert any(plan.offload for plan in ladder(footprint(640, 360, options), options))


@pytest.mark.parametrize(
    ("wanted", "sizes"),
    [
        ({"frames": 1}, [1]),
        ({"frames": 2}, [5, 1]),
        ({"frames": 14}, [17, 13, 9, 5, 1]),
        ({"frames": 14, "batch_size": 9}, [9, 5, 1]),
        ({"frames": 3, "batch_size": 9, "uniform_batch_size": True}, [9, 5, 1]),
        ({"frames": 3, "prepend_frames": 4}, [9, 5, 1]),
        ({"frames": 100, "temporal": False}, [8, 4, 2, 1]),
        ({"frames": 100, "temporal": False, "batch_size": 5}, [5, 4, 2, 1]),
        ({"batch_size": 9997, "frames": 30}, [33, 29, 21, 13, 9, 5, 1]),
        ({"batch_size": 201, "frames": 1000}, [201, 161, 121, 81, 61, 41, 29, 21, 13, 9, 5, 1]),
    ],
)
def test_batches_are_no_larger_than_asked_nor_than_the_clip(wanted: dict[str, object], sizes: list[int]) -> None:
    assert list(batch_sizes(asked(**wanted), on_gpu=True)) == sizes


@pytest.mark.parametrize(
    ("batch", "asked_for", "shared"), [(1, None, 0), (5, None, 1), (13, None, 3), (5, 4, 2), (9, 3, 3), (81, 0, 0)]
)
def test_the_overlap_is_at_most_half_a_batch(batch: int, asked_for: int | None, shared: int) -> None:
    assert shared_frames(asked(temporal_overlap=asked_for), batch) == shared


def test_tiles_are_taken_from_the_start_when_asked_for_and_never_larger_than_asked() -> None:
    options = asked(vae_tiling="on", vae_tile=512, vae_overlap=64)
    plans = ladder(footprint(1920, 1080, options), options)
    assert (plans[0].tile, plans[0].tile_overlap) == (512, 64)
    assert {plan.tile for plan in plans} == {512, 384, 256}


def test_tiles_that_are_refused_are_not_begun_with_whatever_that_takes() -> None:
    options = asked(1, vae_tiling="off")
    plans = ladder(footprint(3840, 2160, options), options)
    assert begin(plans, options).tile == 0
    assert any(plan.tile for plan in plans)


def test_a_video_is_restored_frame_by_frame_only_when_nothing_else_fits() -> None:
    options = asked()
    batches = [plan.batch for plan in ladder(footprint(1920, 1080, options), options)]
    assert 1 not in batches[: batches.index(1)]
    assert set(batches[batches.index(1) :]) == {1}


def test_a_warm_model_stays_on_its_gpu() -> None:
    options = SeedVR2Options(free_bytes=2**62, frames=1)
    assert not begin(ladder(footprint(64, 64, options), options), options).offload


def test_what_a_plan_cannot_hold_is_said() -> None:
    options = asked(batch_size=201, temporal_overlap=50, frames=1000)
    plans = {plan.batch: plan for plan in ladder(footprint(64, 64, options), options)}
    assert list(overridden(plans[201], options)) == []
    assert [note.code for note in overridden(plans[81], options)] == ["BATCH_CAPPED", "OVERLAP_REDUCED"]
    short = asked(batch_size=201, temporal_overlap=50, frames=4)
    assert list(overridden(plans[5], short)) == []


def test_the_matrices_make_up_nearly_all_parameters() -> None:
    assert matrix_parameters(DIT_3B) == pytest.approx(3_391_475_776, rel=0.05)
    assert matrix_parameters(DIT_7B) == pytest.approx(8_239_607_872, rel=0.05)


def test_an_estimate_needs_no_weights() -> None:
    found = estimate(
        None,
        "3b",
        dit_weights=FP8_3B,
        source=Raster(640, 360, RGB24),
        target=Raster(1920, 1080, RGB24),
        options=asked(frames=100),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    assert found.plan.as_reply()["batch_size"] == 21
    assert found.peak_bytes > 5 * GIB
    assert found.seconds_per_frame is not None
    assert found.seconds_per_frame > 1
