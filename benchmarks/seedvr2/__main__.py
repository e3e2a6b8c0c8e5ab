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
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.seedvr2.cases import CASES, Case, Forward, Weights, weights_of
from benchmarks.turns import Work, measure, print_head
from engine.pipelines.devices import fastest_dtype

Make = Callable[[str, Weights], Forward]


def contenders(case: Case, against: Make | None, *, plain_half: bool) -> dict[str, Work]:
    """By name: forwards of the same weights and inputs, the plain one in float32 first."""
    inputs = case.inputs()
    work: dict[str, Work] = {}
    for dtype in dict.fromkeys((torch.float32, fastest_dtype(torch.device("cpu")))):
        weights, cast = weights_of(case.net, dtype), [tensor.to(dtype) for tensor in inputs]
        kind = str(dtype).removeprefix("torch.")
        if dtype == torch.float32 or plain_half:
            work[f"plain {kind}"] = partial(case.plain(weights), *cast)
        work[f"ours {kind}"] = partial(case.ours(dtype, cast[-1]), *cast)
    if against is not None:
        work["against"] = partial(against(case.name, weights_of(case.net, torch.float32)), *inputs)
    return work


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
    repeats = 1 if options.quick else options.repeats
    print_head(options.threads, "reference", "faster")
    with torch.inference_mode():
        for case in chosen:
            work = contenders(case, options.against, plain_half=options.plain_half)
            measure(
                case.name,
                work,
                case.operations(),
                repeats=repeats,
                threads=options.threads,
                reference=case.reference,
            )
            del work  # before the next one's networks are made


if __name__ == "__main__":
    main()
