"""Is what was baked here whole, and does it run on this machine? One line for each check.

python -m builder.smoke                    the models that MODELS names, as a worker checks them before its first job
python -m builder.smoke MODEL... --deep    these, and every file's digest

Reads the worker's environment (MODELS, MODELS_DIR, CATALOG, DEVICE, SCRATCH_DIR, ...). The checks are: the device, the
scratch folder and the encoder; of each model that its files are there and of their size, that every tensor of its
networks has its place and its shape, with --deep that every file has the digest of the catalog or of a manifest, and
a tiny inference. Exit code 0 when nothing failed, else 1.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from builder.bake.bake import known_files
from builder.bake.weighing import digest
from engine.amounts import size
from engine.catalog import Model, locate
from engine.errors import JobError
from engine.jobs.desk import ROOM, Desk
from engine.jobs.fitness import Finding, Unfit, examine, made
from engine.manifests import read_all
from engine.settings import Settings, complaint

MARKS = {True: "ok", False: "FAIL", None: "skip"}


def smoke(desk: Desk, deep: bool = False) -> Iterator[Finding]:
    """All checks of the models that the desk offers; a model is run only after it has passed the others."""
    failed: set[str] = set()
    for finding in examine(desk):
        if finding.passed is False:
            failed.add(finding.subject)
        yield finding
    models = dict.fromkeys(model for name in desk.settings.models if (model := desk.catalog.find(name)))
    for model in models:
        if deep:
            for finding in digests(model, desk.settings.models_dir):
                if finding.passed is False:
                    failed.add(model.name)
                yield finding
        yield inference(model, desk, broken=bool({model.name, "device"} & failed))


def digests(model: Model, folders: Sequence[Path]) -> Iterator[Finding]:
    """Each of the model's files against the digest that the catalog knows, or else any manifest beside it.

    What several models share may stand in the manifest of another one, which was baked before.
    """
    broken: list[str] = []
    listed = {folder: known_files(read_all(folder, broken.append)) for folder in folders}
    yield from (Finding(model.name, "digest", text, passed=False) for text in broken)
    baked = {folder / key: told.sha256 for folder, files in listed.items() for key, told in files.items()}
    stated = {file.name: file.sha256 for file in model.files}
    for name, path in locate(model, folders).paths.items():
        known = baked.get(path) if path.parent.name == "converted" else stated[name] or baked.get(path)
        if known is None:
            yield Finding(model.name, "digest", f"{path}: neither catalog nor manifest knows it", passed=None)
        else:
            yield made(model.name, "digest", partial(compare, path, known))


def compare(path: Path, known: str) -> str:
    """The file's size and how fast it was read. Raises Unfit where its sha256 is another."""
    began = time.monotonic()
    found = digest(path)
    seconds = max(time.monotonic() - began, 1e-6)
    if found != known:
        raise Unfit(f"{path} has the sha256 {found}, not {known}; bake the model again")
    total = path.stat().st_size
    return f"{path.name}, {size(total)} at {size(total / seconds)}/s"


def inference(model: Model, desk: Desk, broken: bool) -> Finding:
    """One tiny shape through the loaded model, which is let go of after it."""
    check = "inference"
    if broken:
        return Finding(model.name, check, "not tried after what failed", passed=None)
    device, free, needed = desk.residency.device, desk.residency.free_bytes(), desk.weight_bytes(model)
    if device.type == "cpu" and ROOM * needed > free:
        text = f"its weights take {size(needed)} here and {size(free)} are free"
        return Finding(model.name, check, text, passed=None)
    try:
        return made(model.name, check, partial(ran, model, desk))
    finally:
        desk.residency.offload()


def ran(model: Model, desk: Desk) -> str:
    """How long loading and one tiny shape took."""
    desk.load_seconds = 0.0
    seconds = desk.warm(model)
    return f"loaded in {desk.load_seconds:.2f} s, a tiny shape in {seconds:.2f} s on {desk.residency.device.type}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m builder.smoke", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a name of the catalog; those of MODELS by default")
    parser.add_argument("--deep", action="store_true", help="read every file and compare its sha256")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
        named = {"models": tuple(options.models)} if options.models else {}
        # not as the platform's worker, which would clear away what another one has in the scratch folder
        desk = Desk.from_settings(settings.model_copy(update={**named, "runpod_webhook_get_job": None}))
    except (ValidationError, JobError) as error:
        print(f"FAIL settings  {complaint(error) if isinstance(error, ValidationError) else error}")
        return 1
    counts = dict.fromkeys(MARKS, 0)
    for finding in smoke(desk, options.deep):
        counts[finding.passed] += 1
        print(f"{MARKS[finding.passed]:4} {finding}", flush=True)
    print(f"{sum(counts.values())} checks: {counts[True]} ok, {counts[False]} failed, {counts[None]} skipped")
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main())
