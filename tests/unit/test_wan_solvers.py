"""Noise levels and steps of Wan2.1, beside the goldens: what must hold of any solver, and diffusers' own solvers."""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from engine.pipelines.wan.schedules import Kind, Schedule, schedule
from engine.pipelines.wan.solvers import solver
from tests.parity.wan_solvers import diffusers_schedule

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own

KINDS: tuple[Kind, ...] = ("unipc", "dpm++", "euler")


def run(kind: Kind, plan: Schedule, x: Tensor, velocity) -> Tensor:
    steps = solver(kind, plan)
    for t in plan.timesteps:
        x = steps.step(x, velocity(x, t))
    return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 50, 100])
@pytest.mark.parametrize("shift", [1.0, 12.0])
def test_a_straight_path_is_followed_to_its_end(kind: Kind, steps: int, shift: float) -> None:
    """Where v is the same everywhere, every solver of any number of steps must arrive at x_0."""
    clean, noise = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1)).unbind()
    plan = schedule(kind, steps, shift)
    begin = (1 - plan.sigmas[0]) * clean + plan.sigmas[0] * noise
    end = run(kind, plan, begin, lambda x, t: noise - clean)
    torch.testing.assert_close(end, clean, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_fall_and_end_at_nothing(kind: Kind) -> None:
    for steps in (1, 4, 100):
        plan = schedule(kind, steps, 12.0)
        assert len(plan) == len(plan.sigmas) - 1 == steps
        assert list(plan.sigmas) == sorted(plan.sigmas, reverse=True)
        assert plan.sigmas[-1] == 0
        assert 999 <= plan.timesteps[0] <= 1000


def test_four_steps_of_euler_are_those_that_distilled_checkpoints_were_made_for() -> None:
    """At timesteps 1000, 750, 500 and 250 of an unshifted schedule, told to the network after the shift."""
    plan = schedule("euler", 4, 5.0)
    assert plan.timesteps == pytest.approx([1000.0, 937.5, 2500 / 3, 625.0])
    assert plan.sigmas == pytest.approx([1.0, 0.9375, 5 / 6, 0.625, 0.0])


@pytest.mark.parametrize(("strength", "left"), [(0.0, 0), (0.019, 0), (0.58, 28), (0.8, 40), (1.0, 50)])
def test_strength_leaves_the_last_steps_of_the_whole_schedule(strength: float, left: int) -> None:
    whole = schedule("unipc", 50, 3.0)
    rest = whole.rest(strength)
    assert (len(rest), rest.sigmas) == (left, whole.sigmas[50 - left :])
    assert rest.timesteps == whole.timesteps[50 - left :]


@pytest.mark.parametrize(("steps", "shift"), [(2, 3.0), (7, 5.0), (30, 8.0)])
def test_unipc_goes_where_diffusers_goes_along_the_same_levels(steps: int, shift: float) -> None:
    peer = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )
    peer.set_timesteps(steps)
    plan = diffusers_schedule(steps, shift)
    assert [int(t) for t in plan.timesteps] == peer.timesteps.tolist()
    assert_same_way("unipc", plan, peer)


@pytest.mark.parametrize(("steps", "shift"), [(2, 3.0), (14, 5.0), (30, 8.0)])
def test_dpm_solver_goes_where_diffusers_goes_along_the_same_levels(steps: int, shift: float) -> None:
    peer = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )
    peer.set_timesteps(steps)
    plan = Schedule(tuple(peer.sigmas.tolist()), tuple(map(float, peer.timesteps)))
    assert_same_way("dpm++", plan, peer)


def assert_same_way(kind: Kind, plan: Schedule, peer) -> None:
    ours = theirs = torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    steps = solver(kind, plan)
    for t in peer.timesteps:
        ours = steps.step(ours, torch.sin(3 * ours) + float(t) / 1000)
        theirs = peer.step(torch.sin(3 * theirs) + float(t) / 1000, t, theirs, return_dict=False)[0]
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
