"""Does an image hold what it offers? The last step of its build: python -m builder.offer

Reads the worker's environment. Every name of MODELS must be in the catalog. Where weights were baked, those of every
model that is offered must be; where none were, they are left to a network volume. Exit code 0, or 1 and a sentence for
each that is not so.
"""

import sys
from collections.abc import Iterator
from functools import partial

from engine.jobs.desk import Desk
from engine.jobs.fitness import Finding, files, made, named
from engine.settings import Settings


def offered(desk: Desk) -> Iterator[Finding]:
    """One finding for each model."""
    folders = desk.settings.models_dir
    baked = any((folder / "manifests").is_dir() for folder in folders)
    for name in desk.settings.models:
        model = desk.catalog.find(name)
        if model is None:
            yield made(name, "name", partial(named, name, desk))
        elif baked:
            yield made(model.name, "files", partial(files, model, folders))


def main() -> int:
    failed = [finding for finding in offered(Desk.from_settings(Settings.from_env())) if not finding.passed]
    for finding in failed:
        print(f"MODELS offers {finding}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
