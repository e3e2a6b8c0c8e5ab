"""The last step of an image's build, and the build's other steps, on what would reach the builder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from builder.offer import offered
from engine.jobs.desk import Desk
from engine.settings import Settings
from tests.builder.baking import Bake
from tests.builder.dockerfile import ROOT, Stage, read, sources
from tests.storage.servers import Server


def failures(tmp_path: Path, *models: str) -> list[str]:
    places = {"models_dir": (tmp_path / "models", tmp_path / "volume"), "catalog": (tmp_path / "catalog.toml",)}
    desk = Desk.from_settings(Settings(models=models, **places))
    return [str(finding) for finding in offered(desk) if not finding.passed]


def test_an_image_with_weights_must_have_those_of_all_it_offers(web: Server, bake: Bake, tmp_path: Path) -> None:
    assert bake("alpha", "--into", tmp_path / "models", "--from", web.url("")).code == 0
    assert failures(tmp_path, "alpha", "bundled") == []
    [told] = failures(tmp_path, "alpha", "beta")
    assert told.startswith("beta  files  b.pth is missing; 1 of its 2 files are here; looked in ")


def test_an_image_without_weights_leaves_them_to_a_volume_and_must_know_their_names(bake: Bake, tmp_path: Path) -> None:
    assert failures(tmp_path, "alpha", "bundled") == []
    [told] = failures(tmp_path, "alpha", "alfa")
    assert told.startswith("alfa  name  ")


def test_the_steps_of_the_last_stage_succeed_on_what_reaches_the_builder(tmp_path: Path) -> None:
    """Those that need neither root nor weights: the code is whole, compiles, imports and offers what it names."""
    final = read().final
    lay(final, tmp_path)
    steps = [text for text in final.texts("RUN") if "useradd" not in text]
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MODELS": "bundled", "REVISION": "c0ffee"}
    for step in steps:
        done = subprocess.run(["sh", "-c", step], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), step
    assert len(steps) == 2 and (tmp_path / "REVISION").read_text() == "c0ffee\n"
    assert len(list(tmp_path.rglob("*.pyc"))) == len(list(tmp_path.rglob("*.py")))


def test_a_default_that_the_image_does_not_bring_is_not_built(tmp_path: Path) -> None:
    """MODEL_1 without MODELS: the last step says which model is missing, in place of a worker that never starts."""
    (tmp_path / "models" / "manifests").mkdir(parents=True)
    step = re.search(r"python -m [\w.]+", read().final.texts("RUN")[-1])
    assert step
    env = {"PATH": os.environ["PATH"], "MODELS_DIR": str(tmp_path / "models"), "MODELS": "seedvr2-3b-fp8,bundled"}
    command = [sys.executable, *step[0].split()[1:]]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and re.match(r"MODELS offers seedvr2_3b_fp8\S*  files  .* is missing; ", line), line


def lay(stage: Stage, into: Path) -> None:
    """Copies what a stage takes of what reaches the builder; `into` stands for /app and for the root."""
    with TemporaryDirectory() as context:
        sent(Path(context))
        for text in stage.texts("COPY"):
            place = into / (to := text.split()[-1]).lstrip("/")
            for path in sources(text):
                copy(Path(context) / path, place / Path(path).name if to.endswith("/") else place)


def sent(into: Path) -> None:
    """What .dockerignore lets through."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    never = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    for rule in rules:
        for path in ROOT.glob(rule[1:]) if rule.startswith("!") else ():
            copy(path, into / path.relative_to(ROOT), *never)
    for rule in rules[1:]:
        if not rule.startswith(("!", "**/")):
            (into / rule).unlink()


def copy(path: Path, to: Path, *never: str) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*never))
    else:
        shutil.copyfile(path, to)
