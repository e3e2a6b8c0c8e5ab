"""Wan2.1 on a CPU: our networks and pipeline, and those of diffusers with the same weights, taking turns.

    python -m benchmarks.wan [--only step ...] [--dtype float32 bfloat16] [--repeats 3] [--threads 2] [--quick]

Seconds are medians over the rounds, of which the first also warms up; ratios are medians of each round's, to diffusers
in the same dtype. CPU seconds are the process's, divided by the threads: what the wall would show if nothing else ran.
GFLOP/s divide the operations of diffusers' way by the wall's seconds, whether or not all of them were needed. dB tell
how far a result is from diffusers' in float32 (its variance over the square of the error); of a whole run they are of
frames, of which ours are rounded to 8 bits.

Keys and values of the prompts are worked out before the step on our side, as once in a whole run.
"""

import argparse

import torch

from benchmarks.turns import measure, print_head
from benchmarks.wan.cases import CASES, FULL, QUICK
from benchmarks.wan.whole import run

DTYPES = ("float32", "bfloat16")
ALL = CASES | {"run": run}


def beside(way: str) -> str:
    """Whose seconds a way's are compared with."""
    return f"theirs {way.split()[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="tiny networks, once: to see that it runs")
    options = parser.parse_args()
    sizes, repeats = (QUICK, 1) if options.quick else (FULL, options.repeats)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print_head(options.threads)
    with torch.inference_mode():
        for name in options.only:
            case = ALL[name](sizes, [getattr(torch, dtype) for dtype in options.dtype])
            made = measure(
                case.title, case.work, case.operations, repeats=repeats, threads=options.threads, beside=beside
            )
            if remark := case.remark(made):
                print(remark, flush=True)
            del case, made  # before the next one's networks are made


if __name__ == "__main__":
    main()
