"""Steps along a schedule: from x at one noise level and the predicted velocity to x at the next.

The network predicts v = noise - x_0, so m = x - sigma v is its guess of x_0. alpha = 1 - sigma, and
lambda = ln(alpha / sigma). All tensors are float32 and of one shape; coefficients are worked out on the host.
"""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engine.pipelines.wan.schedules import Kind, Schedule


class Solver(Protocol):
    """Holds what it needs of earlier steps. Called once for each step of the schedule, in order."""

    def step(self, x: Tensor, v: Tensor) -> Tensor: ...


def solver(kind: Kind, schedule: Schedule) -> Solver:
    kinds: dict[Kind, type[UniPC] | type[DPMSolver] | type[Euler]] = {
        "unipc": UniPC,
        "dpm++": DPMSolver,
        "euler": Euler,
    }
    return kinds[kind](schedule)


class Levels:
    """What the coefficients are made of, by step: sigma, alpha, lambda."""

    def __init__(self, schedule: Schedule) -> None:
        self.sigma = schedule.sigmas
        self.alpha = [float(np.float32(1) - np.float32(s)) for s in self.sigma]
        self.lam = [_log(a) - _log(s) for a, s in zip(self.alpha, self.sigma, strict=True)]
        self.steps = len(schedule)

    def base(self, i: int, x: Tensor, m: Tensor) -> tuple[Tensor, float]:
        """x at level i carried to level i + 1 by m alone, and the factor of whatever is added to m; the last is m."""
        if self.sigma[i + 1] == 0:
            return m, 1.0
        factor = -self.alpha[i + 1] * math.expm1(self.lam[i] - self.lam[i + 1])
        return (self.sigma[i + 1] / self.sigma[i]) * x + factor * m, factor

    def ratio(self, i: int) -> float:
        """The step before i, over step i, in lambda: infinite after a level of pure noise."""
        return (self.lam[i] - self.lam[i - 1]) / (self.lam[i + 1] - self.lam[i])


class Euler:
    """x along v."""

    def __init__(self, schedule: Schedule) -> None:
        self.sigma = schedule.sigmas
        self.done = 0

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        change = self.sigma[self.done + 1] - self.sigma[self.done]
        self.done += 1
        return torch.add(x, v, alpha=change)


class DPMSolver:
    """DPM-Solver++(2M), arXiv:2211.01095, algorithm 2. The first step and the last are of first order."""

    def __init__(self, schedule: Schedule) -> None:
        self.levels = Levels(schedule)
        self.done = 0
        self.before: Tensor | None = None  # m of the step before

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        levels, i = self.levels, self.done
        m = torch.sub(x, v, alpha=levels.sigma[i])
        y, factor = levels.base(i, x, m)
        if self.before is not None and i < levels.steps - 1:
            y = torch.add(y, m - self.before, alpha=factor / (2 * levels.ratio(i)))
        self.before, self.done = m, i + 1
        return y


class UniPC:
    """UniPC of order 2 in its B_2(h) form, arXiv:2302.04867: each step predicts, and corrects the prediction before it.

    The first step and the last predict with first order.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.levels = Levels(schedule)
        self.done = 0
        self.guesses: list[Tensor] = []  # m of up to two steps before
        self.corrected: Tensor | None = None  # x that the last prediction was made from

    def step(self, x: Tensor, v: Tensor) -> Tensor:
        levels, i = self.levels, self.done
        m = torch.sub(x, v, alpha=levels.sigma[i])
        if self.corrected is not None:
            x = self._correct(self.corrected, m)
        y, factor = levels.base(i, x, m)
        if self.guesses and i < levels.steps - 1:
            y = torch.add(y, m - self.guesses[-1], alpha=factor / (2 * levels.ratio(i)))
        self.guesses, self.corrected, self.done = [*self.guesses[-1:], m], x, i + 1
        return y

    def _correct(self, x: Tensor, m: Tensor) -> Tensor:
        """The step that led here once more, from the same x, now that m is known where it led."""
        levels, i = self.levels, self.done - 1
        last = self.guesses[-1]
        y, factor = levels.base(i, x, last)
        if len(self.guesses) == 1:
            return torch.add(y, m - last, alpha=factor / 2)
        h = levels.lam[i + 1] - levels.lam[i]
        r = -levels.ratio(i)
        phi_1 = math.expm1(-h) / -h - 1
        phi_2 = phi_1 / -h - 0.5
        b_1, b_2 = phi_1 / math.expm1(-h), 2 * phi_2 / math.expm1(-h)
        rho_1 = (b_1 - b_2) / (1 - r)
        rho_2 = b_1 - rho_1
        return y.add(self.guesses[0] - last, alpha=factor * rho_1 / r).add_(m - last, alpha=factor * rho_2)


def _log(x: float) -> float:
    return math.log(x) if x else -math.inf
