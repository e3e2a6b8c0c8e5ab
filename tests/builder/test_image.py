"""The Dockerfile keeps the rules that make an image small to push, safe to run and the same every time."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.builder.dockerfile import ROOT, arguments, read, sources, variables

FILE = read()
SLOTS = [f"MODEL_{number}" for number in range(1, 9)]


def runs() -> list[str]:
    return [text for stage in FILE.stages for text in stage.texts("RUN")]


def copied(stage: str) -> list[Path]:
    return [ROOT / path for text in FILE.stage(stage).texts("COPY") for path in sources(text)]


def imported(path: Path) -> Iterator[Path]:
    """The files of ours that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = ROOT / name.replace(".", "/")
            yield from (each for each in (place.with_suffix(".py"), place / "__init__.py") if each.is_file())


def test_process_1_is_python_itself() -> None:
    assert [json.loads(text) for text in FILE.final.texts("CMD")] == [["python", "-u", "handler.py"]]
    assert FILE.final.texts("ENTRYPOINT") == []


def test_it_runs_as_a_user_with_few_rights() -> None:
    assert FILE.final.texts("USER") == ["${RUN_AS}"]
    assert arguments(FILE.final)["RUN_AS"] == "worker"
    assert any("useradd" in text and "--uid 1000 worker" in text for text in FILE.final.texts("RUN"))


def test_nothing_is_downloaded_by_add_or_taken_at_its_latest() -> None:
    assert [text for stage in FILE.stages for text in stage.texts("ADD")] == []
    assert not re.search(r":latest|@latest", (ROOT / "Dockerfile").read_text() + (ROOT / "docker-bake.hcl").read_text())
    assert all(":" in FILE.arguments["BASE_IMAGE"] for stage in FILE.stages if stage.base == "${BASE_IMAGE}")


def test_every_stage_stands_on_the_base_or_on_another_stage() -> None:
    names = {stage.name for stage in FILE.stages}
    bases = {stage.base.replace("${CONVERT}", suffix) for stage in FILE.stages for suffix in ("", "-convert")}
    assert bases - names == {"${BASE_IMAGE}"}


def test_packages_come_from_the_lock_by_their_hashes_and_torch_at_one_version() -> None:
    installs = [text for text in runs() if "pip install" in text]
    assert all("--no-cache-dir" in text for text in installs)
    assert all("--require-hashes" in text or "${TORCH}" in text for text in installs)
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", FILE.arguments["TORCH"])


def test_packages_of_the_system_leave_no_lists_behind() -> None:
    systems = [text for text in runs() if "apt-get" in text]
    assert all("--no-install-recommends" in text and "rm -rf /var/lib/apt/lists" in text for text in systems)


def test_no_argument_or_variable_holds_a_secret() -> None:
    names = {name for stage in FILE.stages for name in arguments(stage) | variables(stage)} | FILE.arguments.keys()
    assert not [name for name in names if re.search("TOKEN|SECRET|PASSWORD|CREDENTIAL|KEY", name)]


def test_each_slot_has_a_stage_that_leaves_out_what_earlier_ones_bring() -> None:
    for number, slot in enumerate(SLOTS, 1):
        stage = FILE.stage(f"model-{number}")
        before = "".join(f" ${{{each}}}" for each in SLOTS[: number - 1])
        assert stage.base == "fetch${CONVERT}"
        assert list(arguments(stage)) == SLOTS[:number]
        assert [text.partition("sh ")[2] for text in stage.texts("RUN")] == [f'builder/fetch.sh "${{{slot}}}"{before}']
        assert "--mount=type=secret,id=HF_TOKEN" in stage.texts("RUN")[0]


def test_the_code_comes_after_a_layer_of_weights_per_slot() -> None:
    copies = FILE.final.texts("COPY")
    weights = [f"--from=model-{number} /models /models" for number in range(1, 9)]
    assert copies[:8] == weights
    assert "engine ./engine" in copies[8:]


def test_everything_copied_exists_and_reaches_the_builder() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    paths = {path for stage in FILE.stages for text in stage.texts("COPY") for path in sources(text)}
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for path in paths:
        inside = (rule for rule in allowed if f"{path}/".startswith(f"{rule}/") or f"{rule}/".startswith(f"{path}/"))
        assert any(inside) or any(fnmatch(path, rule) for rule in allowed), path


def test_the_builder_sees_no_repository_environment_test_or_result() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not {rule[1:].split("/")[0] for rule in rules[1:]} & {".git", ".venv", "tests", "outputs", "build", "docs"}


def test_the_stage_that_fetches_has_all_that_bake_imports() -> None:
    """And no more of the engine's modules than that, so that a change elsewhere does not fetch again."""
    waiting = list((ROOT / "builder" / "bake").glob("*.py"))
    needed = set(waiting)
    waiting.remove(ROOT / "builder" / "bake" / "converting.py")  # what that takes besides is in `fetch-convert`
    while waiting:
        new = set(imported(waiting.pop())) - needed
        needed |= new
        waiting += new
    places = copied("fetch")
    assert [path for path in needed if not any(path.is_relative_to(place) for place in places)] == []
    modules = [path for path in places if path.suffix == ".py" and path.name != "__init__.py"]
    assert [path for path in modules if path not in needed] == []


def test_the_script_of_a_slot_does_nothing_for_an_empty_one_and_names_earlier_ones(tmp_path: Path) -> None:
    script = (ROOT / "builder" / "fetch.sh").read_text().replace("/models", str(tmp_path / "models"))
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)

    def fetched(*slots: str, **environment: str) -> str:
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", **environment}
        command = ["sh", "-c", script, "-", *slots]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    into = f"--into {tmp_path / 'models'}"
    assert fetched("", "a") == ""
    assert fetched("a") == f"-m builder.bake a {into}\n"
    assert fetched("c d", "a", "b", MIRROR="s3://m", CONVERT="1") == (
        f"-m builder.bake c d --besides a b {into} --from s3://m --convert\n"
    )


@pytest.mark.parametrize("name", ["handler.py", "test_input.json", "LICENSE"])
def test_the_working_folder_holds_what_a_self_test_needs(name: str) -> None:
    assert any(name in sources(text) for text in FILE.final.texts("COPY"))
    assert FILE.final.texts("WORKDIR") == ["/app"]
