"""Plans of Wan2.1: what fits on which card, and what is stepped down to where memory runs out."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from benchmarks.plans import CARDS, WAN_MODELS, WAN_TARGETS, known, wan_planned
from builder.needs import wan_sizes
from engine.pipelines.plans import choose
from engine.pipelines.wan.memory import PHASES, Footprint
from engine.pipelines.wan.options import WanOptions
from engine.pipelines.wan.plan import Plan, following, ladder

GB = 10**9
CUDA, CPU = torch.device("cuda"), torch.device("cpu")
FOURTEEN = [name for label, name in WAN_MODELS.items() if "14B" in label]


def plans(name: str = "wan21-i2v-480p-fp8", device: torch.device = CUDA, **changes: object) -> list[Plan]:
    model = known(name)
    asked = {"task": "i2v" if "i2v" in model.tasks else "t2v", "width": 832, "height": 480, "guidance": 5.0, **changes}
    options = WanOptions(
        prompt="",
        frames=81,
        steps=50,
        shift=5.0,
        solver="unipc",
        seed=0,
        free_bytes=0,
        **asked,  # type: ignore[arg-type]
    )
    return ladder(Footprint.of(wan_sizes(model), options, options.width * options.height, torch.bfloat16, device))


@pytest.mark.parametrize("name", WAN_MODELS.values(), ids=[*WAN_MODELS])
def test_no_plan_comes_twice_and_each_saves_something(name: str) -> None:
    rungs = plans(name)
    assert all(before.peaks != after.peaks for before, after in pairwise(rungs))
    assert all(any(after.peaks[p] < before.peaks[p] for p in after.peaks) for before, after in pairwise(rungs))
    assert all(plan not in rungs[:i] for i, plan in enumerate(rungs))


@pytest.mark.parametrize("name", WAN_MODELS.values(), ids=[*WAN_MODELS])
def test_the_last_plan_is_the_thriftiest_in_every_phase(name: str) -> None:
    *others, last = plans(name)
    assert last.peaks.keys() <= set(PHASES)
    assert all(last.peaks[phase] <= other.peaks[phase] for other in others for phase in last.peaks)


def test_what_is_slower_comes_later() -> None:
    rungs = plans()
    assert [len(plan.stay) for plan in rungs] == sorted((len(plan.stay) for plan in rungs), reverse=True)
    assert [plan.resident for plan in rungs] == sorted((plan.resident for plan in rungs), reverse=True)
    assert not any(plan.tile or plan.text_on_host for plan in rungs if plan.stay)
    assert not any(plan.batched for plan in rungs if plan.tile or plan.text_on_host or plan.resident < plan.blocks)


@pytest.mark.parametrize("name", WAN_MODELS.values(), ids=[*WAN_MODELS])
@pytest.mark.parametrize("free", [1, 7, 20, 100])
def test_the_plan_begun_with_is_the_first_that_fits(name: str, free: int) -> None:
    rungs = plans(name)
    first = choose(rungs, free * GB)
    assert all(plan.bytes > free * GB for plan in rungs[:first])
    assert rungs[first].bytes <= free * GB or first == len(rungs) - 1


@pytest.mark.parametrize("phase", PHASES)
def test_where_a_phase_runs_out_of_memory_the_next_plan_takes_less_in_it(phase: str) -> None:
    rungs = plans()
    steps = [*stepping_down(rungs, [phase] * len(rungs))]
    assert len(steps) > 2
    assert all(after.peaks[phase] < before.peaks[phase] for before, after in pairwise(steps))
    assert steps[-1].peaks[phase] == min(plan.peaks[phase] for plan in rungs)


def test_what_one_phase_ran_out_of_is_not_forgotten_in_another() -> None:
    first, *steps = stepping_down(plans(), ["text", "sample", "decode", "sample", "decode", "decode"])
    assert len(steps) > 3
    assert all(plan.peaks["text"] < first.peaks["text"] for plan in steps)


def stepping_down(rungs: list[Plan], phases: list[str]) -> Iterator[Plan]:
    """The first plan, and those after it as memory runs out in one phase after the other."""
    plan: Plan | None = rungs[0]
    short: dict[str, int] = {}
    for phase in phases:
        if plan is not None:
            yield plan
            short[phase] = plan.peaks[phase]
            plan = following(rungs, plan, short)


@pytest.mark.parametrize("name", WAN_MODELS.values(), ids=[*WAN_MODELS])
def test_every_model_makes_480p_on_8_gb(name: str) -> None:
    plan = wan_planned(name, WAN_TARGETS["480P"], 8)
    assert plan is not None
    assert plan.stay == ()


def test_the_large_models_make_720p_on_more_than_8_gb_alone() -> None:
    assert wan_planned("wan21-t2v-1.3b-bf16", WAN_TARGETS["720P"], 8) is not None
    assert not any(wan_planned(name, WAN_TARGETS["720P"], 8) for name in FOURTEEN)
    assert all(wan_planned(name, WAN_TARGETS["720P"], 16) for name in FOURTEEN)


@pytest.mark.parametrize("size", WAN_TARGETS.values(), ids=[*WAN_TARGETS])
@pytest.mark.parametrize("name", WAN_MODELS.values(), ids=[*WAN_MODELS])
def test_a_larger_card_begins_no_later_in_the_ladder(name: str, size: tuple[int, int]) -> None:
    found = [wan_planned(name, size, card) for card in CARDS]
    rungs = plans(name, width=size[0], height=size[1])
    places = [rungs.index(plan) if plan else len(rungs) for plan in found]
    assert places == sorted(places, reverse=True)


@pytest.mark.parametrize("name", FOURTEEN)
def test_blocks_stream_only_where_the_transformer_does_not_fit(name: str) -> None:
    streams = {card: streamed(wan_planned(name, WAN_TARGETS["480P"], card)) for card in CARDS}
    assert streams[8]
    assert not any(streams[card] for card in (48, 80, 141))
    assert streams[24] == (name.endswith("bf16"))


def test_fp8_streams_on_16_gb_and_4_bits_of_a_text_to_video_model_do_not() -> None:
    assert streamed(wan_planned("wan21-t2v-14b-fp8", WAN_TARGETS["480P"], 16))
    assert not streamed(wan_planned("wan21-t2v-14b-q4_k_m", WAN_TARGETS["480P"], 16))


def streamed(plan: Plan | None) -> bool:
    assert plan is not None
    return plan.resident < plan.blocks


@pytest.mark.parametrize("size", WAN_TARGETS.values(), ids=[*WAN_TARGETS])
@pytest.mark.parametrize("name", WAN_MODELS.values(), ids=[*WAN_MODELS])
@pytest.mark.parametrize("card", [80, 141])
def test_on_80_gb_everything_stays_and_guidance_takes_one_pass(name: str, size: tuple[int, int], card: int) -> None:
    plan = wan_planned(name, size, card)
    assert plan is not None
    assert set(plan.stay) >= {"dit", "vae", "text"}
    assert plan.batched
    assert not plan.tile


def test_on_a_processor_nothing_streams_and_nothing_leaves() -> None:
    for plan in plans(device=CPU):
        assert plan.resident == plan.blocks
        assert set(plan.stay) == {"dit", "vae", "text", "image"}
        assert not plan.text_on_host


def test_without_guidance_there_is_nothing_to_batch() -> None:
    assert not any(plan.batched for plan in plans(guidance=1.0))


def test_tiles_are_smaller_than_the_video() -> None:
    assert {plan.tile for plan in plans(width=512, height=320)} == {0, 256}
    assert {plan.tile for plan in plans(width=256, height=256)} == {0}


def test_phases_are_those_that_the_job_has() -> None:
    assert plans()[0].peaks.keys() == set(PHASES)
    assert plans("wan21-t2v-14b-fp8")[0].peaks.keys() == {"text", "sample", "decode"}
    assert plans("wan21-t2v-14b-fp8", task="v2v")[0].peaks.keys() == {"text", "encode", "sample", "decode"}


def test_a_reply_tells_what_is_done_to_fit() -> None:
    assert plans()[0].as_reply() == {
        "stay": [*plans()[0].stay],
        "guidance_in_one_pass": True,
        "tile": None,
        "text_encoder_on_host": False,
        "streamed_blocks": 0,
        "peak_mb": plans()[0].bytes // 2**20,
    }
    assert str(plans()[-1]).startswith("none stays, a pass at a time, tiles of 256 pixels, the text encoder on")
