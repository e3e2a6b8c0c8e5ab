"""`python -m builder.bundled`: train the bundled network, judge it, draw the comparison."""

import argparse
import dataclasses
import logging
from pathlib import Path

from builder.bundled import DEFAULT_FILE, compare, evaluate
from builder.bundled.train import Recipe, train


def main() -> None:
    options = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.command(options)


def _train(options: argparse.Namespace) -> None:
    recipe = Recipe() if options.steps is None else dataclasses.replace(Recipe(), steps=options.steps)
    print(train(recipe, options.seed, options.out, options.work))


def _evaluate(options: argparse.Namespace) -> None:
    model = evaluate.load(options.file)
    for title, quality in (("bicubic down-sampling", None), ("and JPEG of quality 85", 85)):
        print(evaluate.table(title, evaluate.score_photographs(model, quality)), end="\n\n")
    halved, degraded = evaluate.held_out_gain(model, options.seed), evaluate.held_out_degraded_gain(model, options.seed)
    print(f"gain on held-out drawings: {halved:+.2f} dB, degraded as in training: {degraded:+.2f} dB")


def _compare(options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    compare.comparison(evaluate.load(options.file)).save(options.out, optimize=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m builder.bundled", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train the network on procedural pictures; takes up where it stopped")
    command.add_argument("--seed", type=int, default=1, help="decides every random number (default 1)")
    command.add_argument(
        "--out", type=Path, default=DEFAULT_FILE, help="where the weights go (default: the bundled file)"
    )
    command.add_argument("--steps", type=int, help=f"a shorter or longer schedule (default {Recipe().steps})")
    command.add_argument("--work", type=Path, help="folder for pictures and checkpoints (default: a temporary one)")
    command.set_defaults(command=_train)

    command = commands.add_parser("evaluate", help="print PSNR on photographs, bicubic against the network")
    command.add_argument("file", type=Path, nargs="?", default=DEFAULT_FILE)
    command.add_argument("--seed", type=int, default=1, help="the training's, so that held-out drawings are held out")
    command.set_defaults(command=_evaluate)

    command = commands.add_parser("compare", help="draw crops: enlarged by bicubic, by the network, and the truth")
    command.add_argument("file", type=Path, nargs="?", default=DEFAULT_FILE)
    command.add_argument("--out", type=Path, required=True, help="the PNG to write")
    command.set_defaults(command=_compare)
    return parser


if __name__ == "__main__":
    main()
