"""Noise levels and trajectories of Wan2.1's schedules."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.pipelines.wan.schedules import Schedule, schedule, shifted
from engine.pipelines.wan.solvers import solver
from tests.parity.rows import Row, compare_max, exact, kind

KINDS = ("unipc", "dpm++")


@kind("sched_tables")
def tables(name: str, golden: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterator[Row]:
    for steps, shift in sidecar["combos"]:
        for way in KINDS:
            ours, theirs = schedule(way, steps, shift), f"{way}_s{steps}_sh{shift}"
            same = golden[f"{theirs}_timesteps"].tolist() == [int(t) for t in ours.timesteps]
            yield compare_max(f"{name} {theirs}", torch.tensor(ours.sigmas), golden[f"{theirs}_sigmas"], 0.0)
            yield exact(f"{name} {theirs} timesteps", same)


@kind("sched_traj")
def trajectories(name: str, golden: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    steps, shift = sidecar["steps"], sidecar["shift"]
    ways = {way: (way, schedule(way, steps, shift)) for way in KINDS}
    ways["diffusers_unipc"] = "unipc", diffusers_schedule(steps, shift)
    for theirs, (way, plan) in ways.items():
        yield _trajectory(f"{name} {theirs}", way, plan, golden, golden[f"{theirs}_traj"])


def _trajectory(name: str, way: Any, plan: Schedule, golden: Mapping[str, Tensor], wanted: Tensor) -> Row:
    x, steps, seen = golden["x_init"], solver(way, plan), []
    for t in plan.timesteps:
        v = torch.einsum("oc,bcfhw->bofhw", golden["A"], x) + (t / 1000) * golden["u"]
        x = steps.step(x, v)
        seen.append(x)
    return compare_max(name, torch.stack(seen), wanted, 2e-5)


def diffusers_schedule(steps: int, shift: float) -> Schedule:
    """The levels that diffusers gives UniPC, which end at 1/1000 before the shift."""
    sigmas = shifted(np.linspace(1, 1 / 1000, steps + 1)[:-1], shift)
    sigmas[0] -= 1e-6 * (abs(sigmas[0] - 1) < 1e-6)
    return Schedule((*sigmas.astype(np.float32).tolist(), 0.0), tuple(np.trunc(sigmas * 1000).tolist()))
