"""A plan's bytes against what a process really takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.measure_memory import CASES

ROOT = Path(__file__).parents[2]
QUICK = ("compact", "compact, wide, resized", "dense")


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_plan_says_within_a_factor_what_is_taken(case: str) -> None:
    command = [sys.executable, "-m", "tests.unit.measure_memory", case]
    taken, planned = map(int, subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.split())
    assert 0.8 < planned / taken < 2.5
