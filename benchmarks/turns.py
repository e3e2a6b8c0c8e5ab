"""Several ways of doing one piece of work, taking turns, so that what else the machine does falls on all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

CLOCKS = (0, 1)  # of a Turn
_COLUMNS = "{:18} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9} {:>8} {:>10}"
Work = Callable[[], Tensor]


class Turn(NamedTuple):
    """Seconds, and what came of them."""

    wall: float
    cpu: float
    result: Tensor


def turn(work: Work, threads: int) -> Turn:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Turn(time.perf_counter() - wall, (time.process_time() - cpu) / threads, result)


def decibels(wanted: Tensor, got: Tensor) -> float:
    """The variance of what is wanted over the square of the error."""
    return float(10 * torch.log10(wanted.var() / (got.float() - wanted).square().mean()))


def print_head(threads: int, *more: str) -> None:
    print(f"{threads} threads, torch {torch.__version__}, {torch.cpu.get_capabilities()['cpu_name']}")
    heads = ("", "wall s", "CPU s", "wall", "CPU", "GFLOP/s", "dB", *more)
    print(_columns(*heads))


def measure(
    title: str,
    work: Mapping[str, Work],
    operations: int,
    *,
    repeats: int,
    threads: int,
    beside: Callable[[str], str] | None = None,
    reference: float | None = None,
) -> dict[str, Tensor]:
    """Print the rows of one piece of work: seconds are medians over the rounds, ratios medians of each round's.

    beside: the way that a way's seconds are compared with, the first one unless told; nearness in dB is to the first.
    reference: seconds that somebody else took. Returns what came of each way's first turn.
    """
    rounds = [{name: turn(run, threads) for name, run in work.items()} for _ in range(repeats)]
    first = next(iter(work))
    print(f"\n{title}: {operations / 1e9:.0f} GFLOP")
    for name in work:
        base = beside(name) if beside else first
        turns = [row[name] for row in rounds]
        wall, cpu = (statistics.median(t[clock] for t in turns) for clock in CLOCKS)
        faster = (statistics.median(row[base][clock] / row[name][clock] for row in rounds) for clock in CLOCKS)
        figures = [f"{wall:.3f}", f"{cpu:.3f}", *(f"{ratio:.2f}x" for ratio in faster)]
        near = "" if name == first else f"{decibels(rounds[0][first].result, turns[0].result):.0f}"
        others = [f"{reference:.2f}", f"{reference / wall:.2f}x"] if reference else []
        print(_columns(name, *figures, f"{operations / wall / 1e9:.0f}", near, *others), flush=True)
    return {name: turn.result for name, turn in rounds[0].items()}


def _columns(*cells: str) -> str:
    return _COLUMNS.format(*cells, *[""] * (9 - len(cells))).rstrip()
