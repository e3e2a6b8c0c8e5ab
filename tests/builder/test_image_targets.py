"""Every target of docker-bake.hcl can be built: its models are in the catalog, its arguments in the Dockerfile."""

import re
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from builder.bake.wanted import entries
from engine.catalog import Model, built_in
from engine.version import VERSION
from tests.builder.dockerfile import ROOT, arguments, read

NETWORKS = [f"seedvr2-{size}-{kind}" for size in ("3b", "7b", "7b-sharp") for kind in ("fp16", "fp8", "q4", "q8")]
ASKED = {
    *NETWORKS,
    *("base", "bundled", "realesrgan", "all-in-one"),
    *("wan21-t2v-1-3b", "wan21-t2v-14b-fp8", "wan21-i2v-480p-fp8", "wan21-i2v-720p-fp8"),
}
MOST_BYTES = 80e9  # of an image that RunPod builds
# Of an image for a GPU, an estimate: none was built. torch 2.13 for cu130 and the packages of NVIDIA's that it asks for
# are wheels of 2.74 GB, 4.9 GB unpacked; the base and all other packages take 0.7 GB, which makes 5.6.
BESIDES_WEIGHTS = 6e9
RUNNER_BYTES = 45e9  # of disk that a runner of GitHub's has, cleared
CI, RELEASE = (ROOT / ".github" / "workflows" / name for name in ("ci.yml", "release.yml"))


def plain(value: Any) -> Any:
    """Strings without the quotes that hcl2 leaves them."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items() if not str(key).startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


def blocks(kind: str) -> dict[str, Any]:
    parsed = plain(hcl2.loads((ROOT / "docker-bake.hcl").read_text("utf-8")))
    return {name: body for block in parsed[kind] for name, body in block.items()}


def targets() -> dict[str, Any]:
    """Every target by its name, one for each model of the matrix."""
    found = blocks("target")
    matrix = found.pop("one-model")
    assert (matrix.pop("name"), matrix.pop("tags")) == ('${replace(model, ".", "-")}', "${tag(model)}")
    for model in matrix.pop("matrix")["model"]:
        args = {name: re.sub(r"^model$|\$\{model\}", model, value) for name, value in matrix["args"].items()}
        found[model.replace(".", "-")] = {**matrix, "tags": f'${{tag("{model}")}}', "args": args}
    names = blocks("variable")["REALESRGAN"]["default"]
    for body in found.values():
        body["args"] = {name: value.replace("${REALESRGAN}", names) for name, value in body["args"].items()}
    return found


TARGETS = targets()
COMMON = TARGETS.pop("_common")
CATALOG = built_in()


def slots(target: str) -> list[str]:
    return [name for key, name in TARGETS[target]["args"].items() if key.startswith("MODEL_") and name]


def weight_bytes(target: str) -> int:
    """Of all files, each once; of a network whose size is not known about as many as its precision says."""
    sizes = {
        tuple(file.key for file in model.files if file.role == role): model.bytes_of(role)
        for model in entries(CATALOG, slots(target))
        if isinstance(model, Model)
        for role in {file.role for file in model.files}
    }
    assert all(size or keys[0].endswith(".py") for keys, size in sizes.items())  # a few kB, of a prompt
    return sum(size or 0 for size in sizes.values())


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def workflow(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text("utf-8")))


def test_there_is_a_target_for_every_set_of_models() -> None:
    assert TARGETS.keys() == ASKED
    assert blocks("group")["default"]["targets"] == ["seedvr2-3b-fp8"]


def test_targets_have_names_that_buildx_takes() -> None:
    assert [name for name in TARGETS if not re.fullmatch(r"[\w-]+", name)] == []


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_its_models_are_baked_and_offered(target: str) -> None:
    baked = entries(CATALOG, slots(target))
    offered = [CATALOG.find(name) for name in TARGETS[target]["args"]["MODELS"].split(",")]
    assert None not in offered
    assert set(baked) | {CATALOG.find("bundled")} == set(offered)


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_it_fits_where_runpod_builds(target: str) -> None:
    assert weight_bytes(target) + BESIDES_WEIGHTS < MOST_BYTES


def test_each_inherits_the_common_part_and_is_tagged_by_version_and_its_models() -> None:
    assert {tuple(body["inherits"]) for body in TARGETS.values()} == {("_common",)}
    tags = {name: re.fullmatch(r'\$\{tag\("(.+)"\)\}', body["tags"]) for name, body in TARGETS.items()}
    assert {name: found and found[1].replace(".", "-") for name, found in tags.items()} == {
        name: name for name in TARGETS
    }
    assert blocks("function")["tag"]["result"] == ["${REPOSITORY}:${VERSION}-${name}"]


def test_every_argument_is_one_of_the_dockerfile() -> None:
    file = read()
    known = file.arguments.keys() | {name for stage in file.stages for name in arguments(stage)}
    given = {name for body in (COMMON, *TARGETS.values()) for name in body["args"]}
    assert given - known == set()


def test_every_variable_is_used_and_every_used_one_is_a_variable() -> None:
    used = {re.sub(r"\W", "", value) for value in COMMON["args"].values()} | {"REPOSITORY", "REALESRGAN"}
    assert blocks("variable").keys() == used


def test_images_are_for_the_machines_that_runpod_has() -> None:
    assert COMMON["platforms"] == ["linux/amd64"]


def test_secrets_are_given_as_secrets() -> None:
    assert COMMON["secret"] == ["id=HF_TOKEN,env=HF_TOKEN", "id=MIRROR_ENV,env=MIRROR_ENV"]


def test_targets_without_slots_leave_the_dockerfiles_own_model_out() -> None:
    assert {name for name in TARGETS if not slots(name)} == {"base", "bundled"}
    assert {TARGETS[name]["args"]["MODEL_1"] for name in ("base", "bundled")} == {""}


def test_a_release_builds_every_target() -> None:
    assert set(workflow(RELEASE)["jobs"]["image"]["strategy"]["matrix"]["target"]) == TARGETS.keys()


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_release_waits_for_no_image_that_githubs_runners_have_no_room_for(target: str) -> None:
    job = workflow(RELEASE)["jobs"]["image"]
    assert job["continue-on-error"] == "${{ matrix.gigabytes > 0 && vars.LARGE_RUNNER == '' }}"
    large = {each["target"]: each["gigabytes"] for each in job["strategy"]["matrix"]["include"]}
    needed = 2 * weight_bytes(target) + BESIDES_WEIGHTS  # what is fetched, and the image
    assert needed <= large.get(target, 0) * 1e9 if target in large else needed < RUNNER_BYTES


def test_a_release_tells_which_digests_are_to_be_taken_over() -> None:
    told = " ".join(str(step.get("run")) for step in steps(RELEASE))
    assert "--adopt /models/manifests/*.json --lock /tmp/new.json" in told
    assert "python -m builder.bake --adopt manifests/*.json" in told


def test_a_release_is_made_of_a_tag_that_names_the_codes_version() -> None:
    assert workflow(RELEASE)[True] == {"push": {"tags": ["v*"]}}  # YAML reads the word `on` as true
    pattern = re.search(r'grep -q "(VERSION = .*)" (\S+)', RELEASE.read_text())
    assert pattern and pattern[1].replace("\\", "").replace("$VERSION", VERSION) in (ROOT / pattern[2]).read_text()


def test_a_release_checks_each_image_before_it_pushes_it() -> None:
    names = [step.get("name") for step in workflow(RELEASE)["jobs"]["image"]["steps"]]
    assert names.index("Every check inside") < names.index("One real job inside") < names.index("Push")


@pytest.mark.parametrize("path", [CI, RELEASE], ids=lambda path: path.stem)
def test_workflows_may_do_little_and_use_githubs_own_actions_by_commit(path: Path) -> None:
    assert workflow(path)["permissions"] == {"contents": "read"}
    uses = [line.strip() for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    pinned = r"- uses: actions/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+"
    assert [line for line in uses if not re.fullmatch(pinned, line)] == []
    assert all(job["runs-on"] and job.get("timeout-minutes", 5) for job in workflow(path)["jobs"].values())


@pytest.mark.parametrize("path", [CI, RELEASE], ids=lambda path: path.stem)
def test_workflows_run_what_exists(path: Path) -> None:
    text = " ".join(str(step.get("run", "")) for step in steps(path))
    modules = [name.replace(".", "/") for name in re.findall(r"python -m ([\w.]+)", text)]
    files = [*re.findall(r"[\w./]+\.py", text), *re.findall(r"\.ci/\w+", text)]
    assert [
        name for name in modules if not list(ROOT.glob(f"{name}.py")) + list(ROOT.glob(f"{name}/__main__.py"))
    ] == []
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_ci_tests_every_python_of_an_image_on_a_fresh_clone() -> None:
    job = workflow(CI)["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert any(step.get("run") == ".ci/run" for step in job["steps"])


def test_ci_builds_for_both_users() -> None:
    job = workflow(CI)["jobs"]["image"]
    assert job["strategy"]["matrix"]["user"] == ["root", "worker"]
    assert job["env"]["RUN_AS"] == "${{ matrix.user }}"
