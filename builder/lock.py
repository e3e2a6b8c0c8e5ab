"""Writes the locks that the image installs from: every package with its version and the hash of its wheel.

    python -m builder.lock    both, from what pyproject.toml asks for today

The wheels are those for Linux on x86-64 and each Python that an image may have. torch is in no lock, since its index is
an argument of the image; what torch itself asks for is.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import requires
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12")
# glibc 2.28 and older; both spellings of the old ones, as some wheels bear only one.
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014", "manylinux_2_12")
PLATFORMS += ("manylinux2010", "manylinux_2_5", "manylinux1")
# What fetching weights takes of the worker's own dependencies, beside the extra `bake`.
FETCHING = {"boto3", "google-cloud-storage", "requests", "pydantic"}
HEAD = """\
# Made by `python -m builder.lock`; renew it whenever pyproject.toml's dependencies change.
# Wheels for Linux on x86-64, Python {pythons}.
"""
Pins = dict[str, tuple[str, set[str]]]


def roots() -> dict[str, list[str]]:
    """What each lock begins with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {canonicalize_name(Requirement(line).name): line for line in project["dependencies"]}
    del wanted["torch"]
    of_torch = [line for line in requires("torch") or [] if ";" not in line]
    fetching = [line for name, line in wanted.items() if name in FETCHING]
    return {
        "requirements.txt": [*wanted.values(), *of_torch],
        "requirements-bake.txt": [*project["optional-dependencies"]["bake"], *fetching],
    }


def resolve(wanted: Sequence[str], python: str, constraints: Mapping[str, str]) -> Pins:
    """Versions and hashes by name, by pip's own resolver. Raises CalledProcessError where it finds none."""
    with TemporaryDirectory() as folder:
        report, pinned = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        pinned.write_text("".join(f"{name}=={version}\n" for name, version in constraints.items()))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--constraint", str(pinned), "--only-binary", ":all:"]
        command += ["--implementation", "cp", "--python-version", python]
        command += [part for name in PLATFORMS for part in ("--platform", f"{name}_x86_64")]
        subprocess.run([*command, *wanted], check=True)
        return dict(pin(item) for item in json.loads(report.read_text())["install"])


def pin(item: Mapping[str, Any]) -> tuple[str, tuple[str, set[str]]]:
    """One package of pip's report."""
    about = item["metadata"]
    digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
    return canonicalize_name(about["name"]), (about["version"], {digest})


def lock(wanted: Sequence[str], pinned: Mapping[str, str]) -> Pins:
    """One version of each package for all Pythons, `pinned` ones at theirs, with the hash of each one's wheel."""
    pins: Pins = {}
    for python in PYTHONS:
        versions = {**pinned, **versions_of(pins)}
        for name, (version, hashes) in resolve(wanted, python, versions).items():
            pins.setdefault(name, (version, set()))[1].update(hashes)
    return pins


def versions_of(pins: Pins) -> dict[str, str]:
    return {name: version for name, (version, _) in pins.items()}


def text(pins: Pins) -> str:
    """A lock as `pip install --require-hashes -r` reads it."""
    lines = [HEAD.format(pythons=" and ".join(PYTHONS))]
    for name, (version, hashes) in sorted(pins.items()):
        marks = "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(hashes))
        lines.append(f"{name}=={version}{marks}\n")
    return "".join(lines)


def main() -> None:
    pinned: dict[str, str] = {}  # an image installs both locks, so they must agree
    for name, wanted in roots().items():
        pins = lock(wanted, pinned)
        pinned |= versions_of(pins)
        (ROOT / "builder" / name).write_text(text(pins), "utf-8")
        print(f"builder/{name}: {len(pins)} packages")


if __name__ == "__main__":
    main()
