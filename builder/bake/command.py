"""What `python -m builder.bake` does: bake models into a folder, or tell of them."""

import argparse
import os
import sys
from pathlib import Path

from builder.bake import options as command
from builder.bake.bake import Bake
from builder.bake.converting import demand_converter
from builder.bake.errors import BakeError
from builder.bake.hub import Hub, token_of
from builder.bake.ledger import Ledger
from builder.bake.progress import display
from builder.bake.showing import listing, plan
from builder.bake.sources import Origin, Publishers, mirror
from builder.bake.verifying import verify
from builder.bake.wanted import entries, everything
from engine.amounts import number_of_files, size
from engine.catalog import LOCK, Catalog, File, built_in
from engine.errors import JobError
from engine.manifests import NotAManifest, read
from engine.storage.patience import Patience

STOPPED = 130  # the exit code after Ctrl-C


def main(arguments: list[str] | None = None) -> int:
    """The exit code. After STOPPED a thread may still wait for a silent server, and is to be left behind."""
    options = command.read(arguments)
    try:
        failures = _do(options)
    except (BakeError, NotAManifest) as error:
        failures = [str(error)]
    except KeyboardInterrupt:
        print("stopped; the same command goes on with what has come", file=sys.stderr)
        return STOPPED
    for number, failure in enumerate(failures, 1):
        print(f"error {number} of {len(failures)}: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _do(options: argparse.Namespace) -> list[str]:
    ledger = Ledger(options.lock or LOCK)
    catalog = _catalog(options.catalog, ledger)
    if options.list:
        print(listing(catalog, options.into))
        return []
    if options.adopt:
        return _adopt(options.adopt, catalog, ledger)
    chosen, besides = entries(catalog, options.models), entries(catalog, options.besides)
    if options.verify:
        return verify(options.into, chosen, besides, everything(catalog), display(sys.stderr), options.jobs)
    origin = _origin(options.source or os.environ.get("MIRROR"))
    if options.plan:
        text, failures = plan(chosen, besides, options.into, origin, options.convert)
        print(text)
        return failures
    if options.convert:
        demand_converter()
    shown = display(sys.stderr)
    outcome = Bake(chosen, options.into, origin, ledger, shown, besides, options.jobs, options.convert).run()
    for manifest in outcome.manifests:
        total = size(sum(each.bytes for each in manifest.files.values()))
        print(f"{manifest.model}: {number_of_files(len(manifest.files))}, {total}, verified in {options.into}")
    return list(outcome.failures)


def _catalog(named: list[Path] | None, ledger: Ledger) -> Catalog:
    paths = named or [Path(path) for path in os.environ.get("CATALOG", "").split(":") if path]
    try:
        catalog = built_in()
        for path in paths:
            catalog = catalog.with_file(path)
        return catalog.recorded(ledger.entries())
    except JobError as error:
        raise BakeError(error.message) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BakeError(f"the lock file {ledger.path} and the catalog do not agree: {error}") from error


def _origin(source: str | None) -> Origin:
    patience = Patience()
    return mirror(source, patience) if source else Publishers(Hub(token_of(os.environ), patience), patience)


def _files(catalog: Catalog) -> dict[str, File]:
    return {file.key: file for entry in everything(catalog) for file in entry.files}


def _adopt(paths: list[Path], catalog: Catalog, ledger: Ledger) -> list[str]:
    """Record what manifests say of files that the catalog leaves open."""
    if not ledger.writable:
        raise BakeError(f"the lock file {ledger.path} cannot be written; name another one by --lock")
    files, failures, count = _files(catalog), [], 0
    for path in paths:
        for key, baked in read(path).files.items():
            file = files.get(key)
            if file is None:
                continue
            if file.sha256 not in (None, baked.sha256):
                failures.append(f"{path}: {key} has sha256 {baked.sha256}, {file.sha256} expected; nothing of it taken")
            elif file.sha256 is None or file.bytes is None or (file.source.branch and baked.revision):
                ledger.record(key, baked)
                count += 1
    print(f"{number_of_files(count)} recorded in {ledger.path}")
    return failures
