"""The locks hold all that pyproject.toml asks for, by version and hash."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from builder.lock import FETCHING, PYTHONS
from tests.builder.dockerfile import ROOT, read

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = ("requirements.txt", "requirements-bake.txt")


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "builder" / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+", line) for line in lines)
    return dict(line.split()[0].split("==") for line in lines)


def unmet(lines: list[str], lock: dict[str, str]) -> list[str]:
    wanted = [Requirement(line) for line in lines]
    return [str(each) for each in wanted if not each.specifier.contains(lock.get(canonicalize_name(each.name), "0"))]


def test_the_lock_satisfies_every_dependency_but_torch() -> None:
    assert [Requirement(each).name for each in unmet(PROJECT["dependencies"], locked(LOCKS[0]))] == ["torch"]


def test_the_image_installs_a_torch_that_the_project_allows() -> None:
    name, _, version = read().arguments["TORCH"].partition("==")
    [asked] = [Requirement(line) for line in PROJECT["dependencies"] if line.startswith("torch")]
    assert name == "torch" and asked.specifier.contains(version)


def test_the_lock_for_fetching_satisfies_what_bake_takes() -> None:
    wanted = [line for line in PROJECT["dependencies"] if Requirement(line).name in FETCHING]
    assert unmet([*wanted, *PROJECT["optional-dependencies"]["bake"]], locked(LOCKS[1])) == []


def test_both_locks_agree_since_an_image_installs_both() -> None:
    one, other = (locked(name) for name in LOCKS)
    assert {name: (one[name], other[name]) for name in one.keys() & other.keys() if one[name] != other[name]} == {}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_are_for_pythons_that_the_project_allows(python: str) -> None:
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
