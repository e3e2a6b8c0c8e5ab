"""SeedVR2's networks on a CPU: ours and the same networks stated plainly, taking turns; the reference's figures.

    python -m benchmarks.seedvr2 [--only "vae decode"] [--repeats 3] [--threads 2] [--quick] [--plain-half]

Seconds are medians over the rounds, of which the first also warms up; ratios are medians of each round's, to the plain
formulation in float32. CPU seconds are the process's, divided by the threads: what the wall would show if nothing else
ran. GFLOP/s divide the plain formulation's operations by the wall's seconds, whether or not all of them were needed. dB
tell how far a result is from the plain one in float32 (its variance over the square of the error). `reference` is what
the most used implementation took in float32 on another machine with two cores: to be compared with care.

--against MODULE:FUNCTION times a further implementation in the same rounds: FUNCTION(name, weights) is given a case's
name and its float32 weights by their published names, and returns what is called with a case's inputs.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.seedvr2.cases import CASES, Case, Forward, Weights, weights_of
from engine.pipelines.devices import fastest_dtype

BASE = "plain float32"
CLOCKS = (0, 1)  # of a Turn
COLUMNS = "{:14} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9} {:>8} {:>10}"
Make = Callable[[str, Weights], Forward]


class Turn(NamedTuple):
    """Seconds, and what came of them."""

    wall: float
    cpu: float
    result: Tensor


def contenders(case: Case, against: Make | None, *, plain_half: bool) -> dict[str, Callable[[], Tensor]]:
    """By name: forwards of the same weights and inputs."""
    inputs = case.inputs()
    work: dict[str, Callable[[], Tensor]] = {}
    for dtype in dict.fromkeys((torch.float32, fastest_dtype(torch.device("cpu")))):
        weights, cast = weights_of(case.net, dtype), [tensor.to(dtype) for tensor in inputs]
        kind = str(dtype).removeprefix("torch.")
        if dtype == torch.float32 or plain_half:
            work[f"plain {kind}"] = partial(case.plain(weights), *cast)
        work[f"ours {kind}"] = partial(case.ours(dtype, cast[-1]), *cast)
    if against is not None:
        work["against"] = partial(against(case.name, weights_of(case.net, torch.float32)), *inputs)
    return work


def turn(work: Callable[[], Tensor], threads: int) -> Turn:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Turn(time.perf_counter() - wall, (time.process_time() - cpu) / threads, result)


def decibels(wanted: Tensor, got: Tensor) -> float:
    return float(10 * torch.log10(wanted.var() / (got.float() - wanted).square().mean()))


def measure(case: Case, work: Mapping[str, Callable[[], Tensor]], repeats: int, threads: int) -> None:
    """Print a case's rows."""
    rounds = [{name: turn(run, threads) for name, run in work.items()} for _ in range(repeats)]
    operations = case.operations()
    print(f"\n{case.name}: {operations / 1e9:.0f} GFLOP")
    for name in work:
        base, turns = ([row[which] for row in rounds] for which in (BASE, name))
        wall, cpu = (statistics.median(t[clock] for t in turns) for clock in CLOCKS)
        pairs = list(zip(base, turns, strict=True))
        faster = (statistics.median(a[clock] / b[clock] for a, b in pairs) for clock in CLOCKS)
        figures = [f"{wall:.3f}", f"{cpu:.3f}", *(f"{ratio:.2f}x" for ratio in faster)]
        near = "" if name == BASE else f"{decibels(base[0].result, turns[0].result):.0f}"
        reference = [f"{case.reference:.2f}", f"{case.reference / wall:.2f}x"] if case.reference else ["", ""]
        print(COLUMNS.format(name, *figures, f"{operations / wall / 1e9:.0f}", near, *reference), flush=True)


def named(text: str) -> Make:
    module, _, function = text.partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.seedvr2", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="NAME", help="cases whose name has this in it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a quarter of each case's size, once")
    parser.add_argument("--plain-half", action="store_true", help="the plain formulation in half precision as well")
    parser.add_argument("--against", type=named, metavar="MODULE:FUNCTION")
    options = parser.parse_args()
    cases = [case.smaller() if options.quick else case for case in CASES]
    chosen = [case for case in cases if options.only in case.name]
    if not chosen:
        parser.error(f"no case is called so; there are {', '.join(case.name for case in cases)}")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{options.threads} threads, torch {torch.__version__}, {torch.cpu.get_capabilities()['cpu_name']}")
    heads = ("", "wall s", "CPU s", "wall", "CPU", "GFLOP/s", "dB", "reference", "faster")
    print(COLUMNS.format(*heads))
    with torch.inference_mode():
        for case in chosen:
            work = contenders(case, options.against, plain_half=options.plain_half)
            measure(case, work, 1 if options.quick else options.repeats, options.threads)
            del work  # before the next one's networks are made


if __name__ == "__main__":
    main()
