"""Which noise levels a run goes through, and what timestep the network is told at each.

Along the way x_sigma = (1 - sigma) x_0 + sigma noise, with sigma from 1 to 0. A shift s bends the levels towards noise:
sigma -> s sigma / (1 + (s - 1) sigma). Esser et al., arXiv:2403.03206, section 5.3.2.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.pipelines.wan.limits import steps_run

Kind = Literal["unipc", "dpm++", "euler"]
STEPS = 1000.0
HIGHEST = float(np.float32(1 - 1 / STEPS))  # of UniPC's levels before the shift


@dataclass(frozen=True, slots=True)
class Schedule:
    """sigmas: n + 1 falling levels, float32 values, 0 at the end. timesteps: n, of 0 to 1000."""

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.timesteps)

    def rest(self, strength: float) -> "Schedule":
        """The last int(n strength) steps: all that is left to do for what is noised only as far as there."""
        start = len(self) - steps_run(len(self), strength)
        return Schedule(self.sigmas[start:], self.timesteps[start:])


def schedule(kind: Kind, steps: int, shift: float) -> Schedule:
    """The published levels: UniPC's and DPM++'s of wan/utils/fm_solvers*.py, Euler's of step-distilled checkpoints."""
    levels = np.linspace(HIGHEST if kind == "unipc" else 1.0, 0.0, steps + 1)[:-1]
    sigmas = shifted(levels, shift)
    timesteps = sigmas * STEPS
    if kind != "euler":
        timesteps = np.trunc(timesteps)
    return Schedule((*(float(s) for s in sigmas.astype(np.float32)), 0.0), tuple(float(t) for t in timesteps))


def shifted(sigmas: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    return shift * sigmas / (1 + (shift - 1) * sigmas)
