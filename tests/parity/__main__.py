"""Check every golden of the folders that are named: a row each, and 1 as exit status when one fails."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from safetensors.torch import load_file

from tests.parity import (  # noqa: F401  # register kinds
    esrgan,
    gguf,
    seedvr2_color,
    seedvr2_dit,
    seedvr2_pipe,
    seedvr2_vae,
    wan_dit,
    wan_pipe,
    wan_solvers,
    wan_text,
    wan_vae,
    wan_weights,
)
from tests.parity.rows import CannotCheck, Row, check_for

Verdict = Literal["ok", "failed", "skipped"]


def goldens(folders: Iterable[Path]) -> Iterator[Path]:
    """One path for each golden, the `.safetensors` where there is one. A path that is a file is a golden itself."""
    for folder in folders:
        if not folder.exists():
            raise FileNotFoundError(f"there is no {folder}")
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        for path in files:
            alone = path.suffix == ".json" and not path.with_suffix(".safetensors").exists()
            if path.suffix == ".safetensors" or alone:
                yield path


def check(path: Path) -> list[Row]:
    """The rows of one golden. Raises CannotCheck, LookupError for an unknown kind."""
    run = check_for(path.stem)
    if run is None:
        raise LookupError("unknown kind")
    sidecar = path.with_suffix(".json")
    tensors = load_file(path) if path.suffix == ".safetensors" else {}
    return list(run(path.stem, tensors, json.loads(sidecar.read_text()) if sidecar.exists() else {}))


def report(path: Path, known_only: bool) -> Verdict:
    """Print the rows of one golden."""
    try:
        rows = check(path)
    except CannotCheck as error:
        print(f"{path.stem:44} skipped: {error}")
        return "skipped"
    except LookupError:
        if not known_only:
            print(f"{path.stem:44} unknown kind")
        return "skipped" if known_only else "failed"
    except Exception as error:  # a crash is that golden's failure and must not hide the others
        print(f"{path.stem:44} failed: {type(error).__name__}: {error}")
        return "failed"
    for row in rows:
        verdict = "ok" if row.ok else "FAILED"
        figures = f"{row.error:10.2e} {row.psnr:8.1f}  {row.of:>12} {row.figure:10.2e} {row.limit:8.0e}"
        print(f"{row.name:44} {figures}  {verdict}", flush=True)
    return "ok" if rows and all(row.ok for row in rows) else "failed"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--known-only", action="store_true", help="pass over goldens of kinds that have no check yet")
    options = parser.parse_args(arguments)
    print(f"{'name':44} {'max error':>10} {'PSNR dB':>8}  {'figure':>23} {'limit':>8}")
    verdicts = [report(path, options.known_only) for path in goldens(options.folders)]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in get_args(Verdict))
    print(f"{len(verdicts)} goldens: {counts}")
    return 1 if "failed" in verdicts or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
