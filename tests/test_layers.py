"""Dependencies run one way, and an idle worker imports nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENEATH = {
    "amounts",
    "catalog",
    "entries",
    "errors",
    "frames",
    "locating",
    "logs",
    "manifests",
    "notes",
    "settings",
    "spans",
    "version",
}

# What a layer may import of ours besides itself and what lies beneath everything.
ALLOWED: dict[str, set[str]] = {
    "models": set(),
    "weights": set(),
    "pipelines": {"models", "weights"},
    "residency": {"weights"},
    "media": set(),
    "storage": set(),
    "jobs": {"pipelines", "media", "storage", "residency"},
    "sdk": set(),
    "worker": {"jobs", "sdk"},
    "handler": {"worker", "sdk"},
}
# Which layers alone may know a library, even inside a function.
KNOWN_TO: dict[str, set[str]] = {
    "torch": {"models", "weights", "pipelines", "residency", "jobs", "worker"},
    "safetensors": {"weights"},
    "av": {"media"},
    "PIL": {"media"},
    "boto3": {"storage"},
    "botocore": {"storage"},
    "google": {"storage"},
    "requests": {"storage"},
    "runpod": {"sdk"},
}
# The contract's modules are read by a caller's tools: pydantic and nothing heavier.
LIGHT = ("engine.jobs.requests", "engine.jobs.schema", "engine.jobs.sizes", "engine.errors", "engine.settings")
HEAVY = {"torch", "numpy", "boto3", "botocore", "av", "PIL", "google", "cpuinfo", "requests"}

SOURCES = [ROOT / "handler.py", *sorted((ROOT / "engine").rglob("*.py"))]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, wherever it does so, with the line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            module = str(node.module)
            yield from (
                (f"{module}.{alias.name}" if module == "engine" else module, node.lineno) for alias in node.names
            )


def layer(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if len(parts) == 1 else parts[1]


def offences(path: Path) -> Iterator[str]:
    own = layer(path)
    allowed = BENEATH | ALLOWED.get(own, set()) | {own}
    for module, line in imports(path):
        top, *rest = module.split(".")
        if top == "engine":
            wrong = rest and rest[0] not in (BENEATH if own in BENEATH else allowed)
        else:
            wrong = own not in KNOWN_TO.get(top, {own})
        if wrong:
            yield f"{path.relative_to(ROOT)}:{line} imports {module}"


def test_dependencies_run_one_way() -> None:
    assert [offence for path in SOURCES for offence in offences(path)] == []


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer(path) for path in SOURCES} - {"__init__"} <= BENEATH | ALLOWED.keys()


def test_the_rules_see_an_offence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    bad = tmp_path / "engine" / "models" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text("def f():\n    import av\n    from engine import storage\n    from engine.jobs.run import run\n")
    assert [offence.split(" imports ")[1] for offence in offences(bad)] == ["av", "engine.storage", "engine.jobs.run"]


def loaded_by(module: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after `import module`."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LIGHT)
def test_the_contract_is_light_to_import(module: str) -> None:
    assert loaded_by(module) & HEAVY == set()


def test_importing_the_handler_leaves_the_heavy_libraries_for_the_first_job() -> None:
    assert loaded_by("handler") & {"torch", "boto3", "botocore", "av", "google", "cpuinfo"} == set()
