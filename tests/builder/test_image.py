"""The Dockerfile keeps the rules that make an image small to push, safe to run and the same every time."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib.metadata import files, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from builder.bake.command import main
from builder.lock import PYTHONS
from tests.builder.dockerfile import ROOT, arguments, read, sources, variables
from tests.builder.test_image_lock import PROJECT
from tests.builder.test_image_offer import lay

Fetch = Callable[..., "subprocess.CompletedProcess[str]"]

FILE = read()
SLOTS = [f"MODEL_{number}" for number in range(1, 9)]
SECRETS = "--mount=type=secret,id=HF_TOKEN --mount=type=secret,id=MIRROR_ENV"


def runs() -> list[str]:
    return [text for stage in FILE.stages for text in stage.texts("RUN")]


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if (ROOT / name.replace(".", "/")).with_suffix(".py").is_file())


def test_process_1_is_python_itself() -> None:
    assert [json.loads(text) for text in FILE.final.texts("CMD")] == [["python", "-u", "handler.py"]]
    assert FILE.final.texts("ENTRYPOINT") == []


def test_it_runs_as_root_who_may_write_to_a_network_volume_unless_told_otherwise() -> None:
    assert FILE.final.texts("USER") == ["${RUN_AS}"]
    assert arguments(FILE.final)["RUN_AS"] == "root"


def test_its_other_user_has_a_number_that_no_base_gives_away() -> None:
    """Ubuntu 24.04 has a user 1000."""
    [text] = [text for text in FILE.final.texts("RUN") if "useradd" in text]
    assert "--uid 10001 worker" in text and "chown worker outputs" in text


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
    assert all("DEBIAN_FRONTEND=noninteractive apt-get install" in text for text in systems)


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_a_base_has_a_python_that_the_locks_have_wheels_for(version: str, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    told = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0, 'final', 0); exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{told}" "$2"\n')
    python.chmod(0o755)
    [step] = FILE.stage("base").texts("RUN")
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", step], env=env, capture_output=True, text=True, check=False)
    refusal = f"BASE_IMAGE has Python {version}, not {' or '.join(PYTHONS)}: "
    assert (done.returncode == 0, done.stderr == "") == (version in PYTHONS,) * 2
    assert done.stderr.startswith("" if version in PYTHONS else refusal)


def test_no_argument_or_variable_holds_a_secret() -> None:
    names = {name for stage in FILE.stages for name in arguments(stage) | variables(stage)} | FILE.arguments.keys()
    assert not [name for name in names if re.search("TOKEN|SECRET|PASSWORD|CREDENTIAL|KEY", name)]


@pytest.mark.parametrize("number", range(1, 9))
def test_a_slot_leaves_out_what_earlier_ones_bring(number: int) -> None:
    fetched, converted = FILE.stage(f"model-{number}"), FILE.stage(f"model-{number}-convert")
    before = "".join(f" ${{{each}}}" for each in SLOTS[: number - 1])
    script = f'sh builder/fetch.sh "${{{SLOTS[number - 1]}}}"{before}'
    assert fetched.base == "fetch"
    assert list(arguments(fetched)) == SLOTS[:number]  # and no others, whose change would fetch it again
    assert list(arguments(converted)) == SLOTS[:number]
    assert fetched.texts("RUN") == [f"{SECRETS} {script}"]
    assert converted.base == "convert"
    assert converted.texts("COPY") == [f"--from=model-{number} /models /models"]
    assert converted.texts("RUN") == [script]
    assert FILE.stage(f"slot-{number}").base == f"model-{number}${{CONVERT}}"


def test_converting_knows_no_mirror() -> None:
    stage = FILE.stage("convert")
    assert list(arguments(stage)) == ["CATALOG"]
    assert variables(stage) == {"CATALOG": "${CATALOG}", "CONVERT": "1"}


def test_the_code_comes_after_a_layer_of_weights_per_slot() -> None:
    copies = FILE.final.texts("COPY")
    weights = [f"--from=slot-{number} /models /models" for number in range(1, 9)]
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


def test_the_stage_that_fetches_holds_what_a_bake_takes_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lies there besides would fetch everything again when it changes."""
    lay(FILE.stage("fetch"), tmp_path)
    bake = [path for path in (ROOT / "builder" / "bake").glob("*.py") if path.name != "converting.py"]  # in `convert`
    named = {name for path in bake for name in imported(path)}
    plan = ["--plan", "realesrgan", "seedvr2-3b-fp8", "wan21-i2v-720p-fp8"]
    code = f"import sys, {', '.join(named)}; sys.exit(builder.bake.command.main({plan}))"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert main(plan) == 0 and done.stdout == capsys.readouterr().out
    taken = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    there = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in there if path.suffix == ".py"}
    assert modules - taken == {"builder.bake.__main__"}
    assert {path.name for path in there if path.suffix != ".py"} == {
        *("requirements-bake.txt", "fetch.sh", "catalog.toml", "catalog.lock.json", "bundled-x2.safetensors"),
    }


def test_the_last_step_imports_every_compiled_package() -> None:
    """So that one which lacks a library of the system is found while building."""
    [step] = [text for text in FILE.final.texts("RUN") if "import" in text]
    named = re.findall(r"\w+", step.partition("import ")[2].partition('"')[0])
    known = packages_distributions()
    owners = {owner for name in named for owner in known.get(name, ())}
    asked = {Requirement(line).name for line in PROJECT["dependencies"]}
    compiled = {name for name in asked if any(".so" in path.suffixes for path in files(name) or ())}
    assert {"torch", "av"} <= compiled <= owners


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """The script of a slot, with a Python that only says its command line and what its environment gave it."""
    script = (ROOT / "builder" / "fetch.sh").read_text()
    script = script.replace("/models", str(tmp_path / "models")).replace("/run/secrets", str(tmp_path))
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@"\nprintf %s "${GCS_CREDENTIALS_JSON-}" "${BUCKET_REGION-}" "${MIRROR-}"\n')
    python.chmod(0o755)

    def run(*slots: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", **environment}
        return subprocess.run(["sh", "-c", script, "-", *slots], env=env, capture_output=True, text=True, check=False)

    return run


def test_the_script_of_a_slot_does_nothing_for_an_empty_one_and_names_earlier_ones(
    fetch: Fetch, tmp_path: Path
) -> None:
    into = f"--into {tmp_path / 'models'}"
    assert fetch("", "a").stdout == ""
    assert fetch("a").stdout == f"-m builder.bake a {into}\n"
    assert fetch("c d", "a", "b", MIRROR="s3://m/a@b", CONVERT="1").stdout == (
        f"-m builder.bake c d --besides a b {into} --convert\ns3://m/a@b"
    )


def test_a_secrets_values_are_taken_as_they_stand(fetch: Fetch, tmp_path: Path) -> None:
    key = '{"private_key": "-----BEGIN\\n$HOME `id` a\'b==\\n"}'
    (tmp_path / "MIRROR_ENV").write_text(f"# of the mirror\n\nGCS_CREDENTIALS_JSON={key}\nBUCKET_REGION= x y ")
    assert fetch("a").stdout.splitlines()[1] == f"{key} x y "


@pytest.mark.parametrize("line", ["{", "export A=1", "A B=1", "1=2", "=a"])
def test_a_secret_of_another_form_is_refused_and_not_shown(fetch: Fetch, tmp_path: Path, line: str) -> None:
    (tmp_path / "MIRROR_ENV").write_text(f"{line}hidden")
    done = fetch("a")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the secret MIRROR_ENV has a line that is not NAME=value" in done.stderr and "hidden" not in done.stderr


def test_a_mirrors_password_may_come_by_the_secret_and_not_by_an_argument(fetch: Fetch, tmp_path: Path) -> None:
    mirror = "https://me:hidden@mirror.example/models"
    done = fetch("a", MIRROR=mirror)
    assert done.returncode == 1 and "MIRROR_ENV" in done.stderr and "hidden" not in done.stdout + done.stderr
    (tmp_path / "MIRROR_ENV").write_text(f"MIRROR={mirror}")
    assert fetch("a").stdout.splitlines() == [f"-m builder.bake a --into {tmp_path / 'models'}", mirror]


@pytest.mark.parametrize("name", ["handler.py", "test_input.json", "LICENSE"])
def test_the_working_folder_holds_what_a_self_test_needs(name: str) -> None:
    assert any(name in sources(text) for text in FILE.final.texts("COPY"))
    assert FILE.final.texts("WORKDIR") == ["/app"]
