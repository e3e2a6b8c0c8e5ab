"""Workers that offer tiny checkpoints of SeedVR2 and Wan2.1, in this process and in one of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.tiny.layouts import CATALOG, LAYOUTS, POSITIVE_FILE, VAE
from engine.catalog import Catalog, built_in
from tests.worker.conftest import REPOSITORY
from tests.worker.inside import Inside, Reply, inside

MODEL = "tiny-seedvr2-3b-fp16"
LAYOUT = LAYOUTS["3b-fp16"]
T2V, I2V = "tiny-wan-t2v-original", "tiny-wan-i2v-original"
# Has glibc return what is freed: else its heap, grown in pieces, hides 50 MB of what a process holds, or shows them.
UNPOOLED = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}


def environment(checkpoints: Path, model: str = MODEL) -> dict[str, str]:
    """Variables of a worker process. One thread: what is this small gains nothing from a second."""
    return {
        "CATALOG": str(checkpoints / CATALOG),
        "MODELS_DIR": str(checkpoints),
        "MODELS": model,
        "OMP_NUM_THREADS": "1",
    }


def run_handler(folder: Path, checkpoints: Path, env: Mapping[str, str] | None = None, **fields: Any) -> Path:
    """Run one job by `handler.py` in a process of its own, in `folder`; the folder of its results."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNPOD_")}
    places = {"OUTPUT_DIR": str(folder / "results"), "SCRATCH_DIR": str(folder / "scratch")}
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "handler.py"), "--test_input", json.dumps({"input": fields})],
        cwd=folder,
        env={**kept, **environment(checkpoints), **places, **(env or {})},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results" / "local_test"


@contextmanager
def offering(folder: Path, checkpoints: Path, models: Iterable[str] = (MODEL,), **settings: Any) -> Iterator[Inside]:
    """A worker inside the test; `models` are those it offers."""
    given: dict[str, Any] = {"models_dir": (checkpoints,), "catalog": (checkpoints / CATALOG,), **settings}
    with inside(folder, models=tuple(models), **given) as made:
        yield made


def catalog_of(path: Path, models: Mapping[str, tuple[str, str]]) -> Path:
    """A catalog, beside the tiny one, of 3B models by the names of their transformer's and their autoencoder's file.

    Of files that the tiny catalog does not know, no size is known.
    """
    known = {LAYOUT.file, VAE, POSITIVE_FILE}
    text = '[source.damaged]\nlicence = "Apache-2.0"\n'
    for role, place in (("dit", 0), ("vae", 1)):
        for file in sorted({files[place] for files in models.values()} - known):
            text += f'[file."{file}"]\nsource = "damaged"\nrole = "{role}"\n'
    for name, (dit, vae) in models.items():
        text += f"""
[[model]]
name = "{name}"
family = "seedvr2"
architecture = "3b"
tasks = ["upscale"]
description = "Not what it should be"
parameters = 1
precision = "F16"
files = ["{dit}", "{vae}", "{POSITIVE_FILE}"]
"""
    path.write_text(text)
    return path


def known(checkpoints: Path) -> Catalog:
    """What a worker that offers the tiny checkpoints knows."""
    return built_in().with_file(checkpoints / CATALOG)


def wan_catalog_of(path: Path, checkpoints: Path, models: Mapping[str, tuple[str, Mapping[str, str | None]]]) -> Path:
    """A catalog, beside the tiny one, of Wan2.1 models by name: each is another model with files of its own.

    These are given by role, None for none; of those that the tiny catalog does not know, no size is known.
    """
    tiny = known(checkpoints)
    old = {file.key for model in tiny.models for file in model.files}
    text, told = '[source.changed]\nlicence = "Apache-2.0"\n', set[str]()
    for name, (origin, changes) in models.items():
        model = tiny.find(origin)
        assert model is not None
        own = {file: role for role, file in changes.items() if file is not None}
        for file in own.keys() - old - told:
            text += f'[file."{file}"]\nsource = "changed"\nrole = "{own[file]}"\n'
            told.add(file)
        files = [*own, *(file.key for file in model.files if file.role not in changes)]
        text += f"""
[[model]]
name = "{name}"
family = "wan"
architecture = "{model.architecture}"
tasks = {list(model.tasks)}
description = "Not what it should be"
parameters = {model.parameters}
precision = "{model.precision}"
files = {files}
"""
    path.write_text(text)
    return path


def wan_loras(path: Path, loras: Mapping[str, str]) -> Path:
    """A catalog, beside the tiny one, of LoRAs by name; what is said of each is its file and for which models."""
    text = '[source.tuned]\nlicence = "Apache-2.0"\n'
    for name, facts in loras.items():
        text += f'[file."{name}.safetensors"]\nsource = "tuned"\nrole = "lora"\n'
        text += f'[[lora]]\nname = "{name}"\nfile = "{name}.safetensors"\ndescription = "For tests"\n{facts}\n'
    path.write_text(text)
    return path


def generate(worker: Inside, id: str = "job-1", **fields: Any) -> Reply:
    """The reply to a job that makes video, of the smallest kind unless told otherwise."""
    small = {"action": "generate", "prompt": "a cat runs", "size": "32*32", "frames": 5, "steps": 2, "seed": 7}
    return worker.ask(id, **{**small, "preset": "ultrafast", **fields})


def codes(reply: Mapping[str, Any]) -> list[str]:
    return [warning["code"] for warning in reply["warnings"]]
