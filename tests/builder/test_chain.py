"""From a mirror to a job: what `bake` left, `smoke` passes and a worker runs; what was spoilt since, both refuse."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from builder.smoke import main as smoke
from builder.tiny.layouts import CATALOG, VAE, make
from engine.jobs.desk import ROOM, Desk
from engine.manifests import Baked, manifest_path, read
from engine.residency import MIB
from engine.settings import Settings
from tests.builder.mirror import COMMIT, REPO, HubServer, publish
from tests.storage.servers import Server, answer, serving
from tests.worker.conftest import REPOSITORY, Bench
from tests.worker.fake_platform import FakePlatform
from tests.worker.inside import inside, tiny
from tests.worker.tiny import LAYOUT, MODEL, T2V, environment

LORA = "tiny-wan-t2v-lora"
CONVERTED = f"converted/{T2V}.safetensors"
BOTH = f"{T2V},{MODEL}"
VIDEO = {"model": T2V, "prompt": "a cat runs", "size": "32*32", "frames": 5, "steps": 2, "seed": 7}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the mirror holds, and its catalog: Wan2.1's network is two shards in float32."""
    folder = tmp_path_factory.mktemp("published")
    make(folder, ["3b-fp16", "wan-t2v-original"])
    return folder


@pytest.fixture(scope="module")
def mirror(published: Path) -> Iterator[Server]:
    paths = [path for path in published.rglob("*") if path.is_file()]
    with serving(publish(Server(), {str(path.relative_to(published)): path.read_bytes() for path in paths})) as server:
        yield server


@pytest.fixture(scope="module")
def baked(published: Path, mirror: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as an image has it: one model as published, another converted, and a LoRA."""
    into = tmp_path_factory.mktemp("baked")
    for names in ([MODEL, LORA], [T2V, "--convert"]):
        done = bake(*names, published=published, mirror=mirror, into=into)
        assert done.returncode == 0, done.stderr
    return into


@pytest.fixture
def models(baked: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(baked, tmp_path / "models"))


@pytest.fixture(scope="module")
def worker(published: Path, baked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A worker that offers both models and has memory for the larger one alone."""
    catalog = published / CATALOG
    desk = Desk.from_settings(Settings(models=(MODEL,), models_dir=(baked,), catalog=(catalog,), device="cpu"))
    budget = int(ROOM * desk.weight_bytes(desk.model(None))) // MIB
    with FakePlatform() as platform:
        bench = Bench(platform, tmp_path_factory.mktemp("volume"))
        bench.start(**offering(published, baked), RAM_BUDGET_MB=str(budget))
        yield bench
        assert platform.anomalies == []


def bake(*arguments: str, published: Path, mirror: Server, into: Path) -> "subprocess.CompletedProcess[str]":
    """`python -m builder.bake` in a process of its own."""
    places = ["--into", into, "--from", mirror.url(""), "--catalog", published / CATALOG, "--lock", into / "lock.json"]
    return process("builder.bake", *arguments, *map(str, places))


def process(module: str, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=240)


def manifest(baked: Path, model: str) -> Mapping[str, Baked]:
    """What the bake says it left of a model, by the files' keys."""
    return read(manifest_path(baked, model)).files


def offering(published: Path, models: Path, names: str = BOTH) -> dict[str, str]:
    """The environment of a worker that offers what is in a folder."""
    return environment(published, names) | {"MODELS_DIR": str(models)}


# ---- Good -------------------------------------------------------------------------------------------------------


def test_what_was_baked_passes_every_check(published: Path, baked: Path) -> None:
    done = process("builder.smoke", "--deep", **offering(published, baked))
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    for model in (MODEL, T2V):
        files = len(manifest(baked, model))
        told = [line[5:].split("  ")[1:] for line in lines if line.startswith(f"ok   {model}  ")]
        assert [check for check, *_ in told] == ["files", "networks", *["digest"] * files, "inference"]
        assert told[0][1].endswith(f", {files} as baked")
    assert last.endswith(" 0 failed, 0 skipped")


def test_the_worker_names_the_files_that_were_baked(worker: Bench, baked: Path) -> None:
    reply = worker.done(worker.submit(action="info"))["output"]
    assert {model["name"]: model["missing"] for model in reply["models"]} == {T2V: [], MODEL: []}
    assert [(lora["name"], lora["missing"]) for lora in reply["loras"] if not lora["missing"]] == [(LORA, [])]
    named = {(file["name"], file["sha256"]) for file in reply["models"][1]["files"]}
    assert named == {(Path(key).name, file.sha256) for key, file in manifest(baked, MODEL).items()}


def test_a_model_leaves_for_one_that_does_not_fit_beside_it_and_both_do_their_jobs(worker: Bench) -> None:
    for fields in (VIDEO, {"model": MODEL, "resolution": 32, **tiny(worker.volume)}):
        view = worker.done(worker.submit(**fields))
        assert (view["status"], view["output"].get("model")) == ("COMPLETED", fields["model"]), view
        assert worker.done(worker.submit(action="info"))["output"]["loaded"] == [fields["model"]]
    assert f"dropped {T2V} to make room for {MODEL}" in worker.log.read_text()


def test_a_converted_network_makes_video_with_a_baked_lora(worker: Bench, baked: Path) -> None:
    assert CONVERTED in manifest(baked, T2V) and not list(baked.glob("tiny-wan-t2v/*"))
    plain, tuned = (worker.done(worker.submit(**VIDEO, **loras)) for loras in ({}, {"loras": [{"name": LORA}]}))
    assert (plain["status"], tuned["status"]) == ("COMPLETED", "COMPLETED"), (plain, tuned)
    assert plain["output"]["output"]["sha256"] != tuned["output"]["output"]["sha256"]


def test_a_hugging_face_cache_is_as_good_as_a_bake(published: Path, tmp_path: Path) -> None:
    """Made by their own package: links in a snapshot to blobs named by digest."""
    with serving(HubServer()) as hub:
        hub.files = {name: (published / name).read_bytes() for name in LAYOUT.files}
        for name in hub.files:
            hf_hub_download(REPO, name, revision=COMMIT, cache_dir=tmp_path / "hub", endpoint=hub.url(""))
    assert all(path.is_symlink() for path in (tmp_path / "hub").rglob(f"snapshots/{COMMIT}/*"))
    told = (published / CATALOG).read_text().replace("[source.tiny]", f'[source.tiny]\nrepo = "{REPO}"')
    (tmp_path / CATALOG).write_text(told)
    places = {"catalog": (tmp_path / CATALOG,), "models_dir": (tmp_path / "empty", tmp_path / "hub")}
    with inside(tmp_path, models=(MODEL,), **places) as made:
        assert made.ask(**tiny(tmp_path), resolution=32)["status"] == "completed"


# ---- Spoilt -----------------------------------------------------------------------------------------------------


def test_a_byte_flipped_after_the_bake_is_found_by_the_manifest(
    published: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a converted network no catalog knows the digest."""
    content = bytearray((models / CONVERTED).read_bytes())
    content[-1] ^= 1
    (models / CONVERTED).write_bytes(content)
    for name, value in offering(published, models, T2V).items():
        monkeypatch.setenv(name, value)
    assert smoke(["--deep"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert line.startswith(f"FAIL {T2V}  digest  {models / CONVERTED} has the sha256 ")


def test_a_worker_refuses_files_that_were_cut_after_the_bake(published: Path, models: Path, tmp_path: Path) -> None:
    for name in (CONVERTED, VAE):
        os.truncate(models / name, 1000)
    with FakePlatform() as platform:
        bench = Bench(platform, tmp_path)
        assert bench.start(**offering(published, models)).wait(240) == 1
        lines = [line for line in bench.log.read_text().splitlines() if "no jobs will be taken" in line]
        assert bench.takes() == 0
    assert all(f"{models / name} has 1,000 bytes" in line for line, name in zip(lines, (CONVERTED, VAE), strict=True))


def test_half_a_bake_is_half_a_model_until_it_is_run_again(
    published: Path, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.faults.append((f"GET /{VAE}", answer(404)))
    places = {"published": published, "mirror": mirror, "into": tmp_path / "models"}
    assert bake(MODEL, **places).returncode == 1
    for name, value in offering(published, tmp_path / "models", MODEL).items():
        monkeypatch.setenv(name, value)
    assert smoke([]) == 1
    assert f"FAIL {MODEL}  files  {VAE} is missing; " in capsys.readouterr().out
    assert bake(MODEL, **places).returncode == 0
    assert smoke([]) == 0
