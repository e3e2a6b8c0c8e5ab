"""The command line of `python -m builder.bake`."""

import argparse
from pathlib import Path

JOBS = 4
# What else than baking can be asked for, and what it heeds besides --lock and --catalog.
HEEDED = {
    "list": {"into"},
    "plan": {"models", "into", "source", "besides", "convert"},
    "verify": {"models", "into", "besides", "jobs"},
    "adopt": set[str](),
}
SPELT = {
    "models": "MODEL",
    "into": "--into",
    "source": "--from",
    "besides": "--besides",
    "jobs": "--jobs",
    "convert": "--convert",
}
EXAMPLES = """
MODEL is a name of the catalog, an alias, the name of a published file, a LoRA, or a family (realesrgan, seedvr2,
wan), several of them separated by spaces or commas.

examples:
  python -m builder.bake --list
  python -m builder.bake --plan seedvr2-3b-fp8
  python -m builder.bake seedvr2-3b-fp8 --into /models
  python -m builder.bake wan21-t2v-14b-fp8 lightx2v-t2v-4step --into /models --jobs 8
  python -m builder.bake seedvr2-7b-fp8 --into /layer --besides seedvr2-3b-fp8    what the other layer has is left out
  python -m builder.bake realesrgan --into /models --from s3://bucket/models      or a folder, https://, gs://
  python -m builder.bake --verify --into /models                                  read everything again
  python -m builder.bake --adopt manifests/*.json                                 an image's manifests into the lock

environment:
  HF_TOKEN       opens gated repositories; in a build a secret: --mount=type=secret,id=HF_TOKEN
  MIRROR         what --from names, where that is absent: no process list shows the password in it
  HF_ENDPOINT    a mirror that speaks Hugging Face's protocol
  CATALOG        colon-separated files with models of your own, as for the worker
  BUCKET_*, AWS_*, GCS_CREDENTIALS_JSON   credentials of s3:// and gs:// mirrors, as for the worker

A bake that was stopped goes on where it was when the same command is run again; one that is done downloads nothing.
exit codes: 0 all is well, 1 something failed (one sentence each on stderr), 2 the command line is wrong, 130 Ctrl-C
"""


def parser() -> argparse.ArgumentParser:
    """With every option described."""
    made = argparse.ArgumentParser(
        prog="python -m builder.bake",
        description="Bring the published files of models into a folder: downloaded, verified, listed in manifests.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("models", nargs="*", metavar="MODEL", help="what to bake")
    made.add_argument("--into", type=Path, metavar="DIR", help="the folder, made where it is missing")
    made.add_argument(
        "--from", dest="source", metavar="DIR|URL", help="a mirror in place of the publishers (or MIRROR)"
    )
    made.add_argument(
        "--besides",
        action="extend",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="leave out the files that these bring: they lie in another layer of the image",
    )
    made.add_argument("--lock", type=Path, metavar="FILE", help="where first digests are recorded (the catalog's own)")
    made.add_argument("--catalog", type=Path, action="append", metavar="FILE", help="models of your own, besides ours")
    made.add_argument("--jobs", type=number, metavar="N", help=f"files at a time (default {JOBS})")
    made.add_argument("--convert", action="store_true", help="write each network as one file that loads fastest")
    instead = made.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="all models: size, memory, licence; downloads nothing")
    instead.add_argument("--plan", action="store_true", help="the files, sums and sources; downloads nothing")
    instead.add_argument("--verify", action="store_true", help="read all baked files again; downloads nothing")
    instead.add_argument("--adopt", nargs="+", type=Path, metavar="MANIFEST", help="take digests over into the lock")
    return made


def read(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options, complete; leaves with exit code 2 where they are not."""
    made = parser()
    options = made.parse_args(arguments)
    instead = next((name for name in HEEDED if getattr(options, name)), None)
    for name, flag in SPELT.items():
        if getattr(options, name) and name not in HEEDED.get(str(instead), SPELT):
            made.error(f"{flag} has no effect with --{instead}")
    baking = instead is None
    options.jobs = options.jobs or JOBS
    if (baking or options.verify) and options.into is None:
        made.error("--into DIR is missing: the folder that the files lie in")
    if options.plan and options.convert and options.into is None:
        made.error("--convert has no effect with --plan but for the room that DIR has: add --into DIR")
    if (baking or options.plan) and not options.models:
        made.error("name at least one MODEL; --list shows them all")
    return options


def number(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 64:
        raise argparse.ArgumentTypeError("from 1 to 64")
    return count
