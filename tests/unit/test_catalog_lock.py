"""What was recorded of files on their first download completes the catalog and may not contradict it."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import LOCK, Catalog, File, built_in

TEXT = """
[source.hub]
repo = "us/films"
revision = "main"
licence = "MIT"

[file."film.safetensors"]
source = "hub"
role = "network"
sha256 = "record"

[file."known.safetensors"]
source = "hub"
role = "weak_denoiser"
bytes = 300
sha256 = "%s"
sources = 1

[file."grain.safetensors"]
source = "hub"
role = "lora"
sha256 = "record"

[[model]]
name = "film"
family = "esrgan"
tasks = ["upscale"]
description = "Old films"
parameters = 100
precision = "F32"
files = ["film.safetensors", "known.safetensors"]

[[lora]]
name = "grain"
description = "Its grain"
file = "grain.safetensors"
for = ["t2v-14b"]
""" % ("a" * 64)
FOUND = {"bytes": 404, "sha256": "b" * 64, "revision": "c" * 40}


@pytest.fixture
def films(tmp_path: Path) -> Catalog:
    path = tmp_path / "films.toml"
    path.write_text(TEXT)
    return built_in().with_file(path)


def network(catalog: Catalog) -> File:
    model = catalog.find("film")
    assert model is not None
    return model.files[0]


def test_what_is_to_be_recorded_is_not_known(films: Catalog) -> None:
    file = network(films)
    assert (file.sha256, file.bytes, file.sources, file.source.branch) == (None, None, 0, True)


def test_what_was_recorded_completes_a_file(films: Catalog) -> None:
    file = network(films.recorded({"film.safetensors": FOUND}))
    assert (file.sha256, file.bytes) == ("b" * 64, 404)
    assert file.url == f"https://huggingface.co/us/films/resolve/{'c' * 40}/film.safetensors"


def test_a_lora_s_file_is_completed_likewise(films: Catalog) -> None:
    lora = films.recorded({"grain.safetensors": FOUND}).find_lora("grain")
    assert lora is not None and lora.file.sha256 == "b" * 64


def test_a_lock_without_a_revision_leaves_the_branch(films: Catalog) -> None:
    file = network(films.recorded({"film.safetensors": {"bytes": 404, "sha256": "b" * 64}}))
    assert file.source.revision == "main" and file.bytes == 404


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({**FOUND, "bytes": 300}, "sha256 of `known.safetensors` was recorded as bbb"),
        ({**FOUND, "sha256": "a" * 64}, "bytes of `known.safetensors` was recorded as 404 but is 300 in the catalog"),
    ],
)
def test_a_lock_that_contradicts_the_catalog_is_refused(films: Catalog, found: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        films.recorded({"known.safetensors": found})


def test_a_recorded_digest_has_the_form_of_one(films: Catalog) -> None:
    with pytest.raises(ValueError, match=r"`film.safetensors` is neither 64 hexadecimal digits nor `record`"):
        films.recorded({"film.safetensors": {**FOUND, "sha256": "<html>"}})


def test_a_file_that_the_catalog_dropped_stops_nobody(films: Catalog) -> None:
    assert films.recorded({"gone.safetensors": FOUND}) == films


def test_the_catalog_of_the_package_has_its_lock_applied() -> None:
    files = {file.key: file for model in built_in().models for file in model.files}
    for key, found in json.loads(LOCK.read_text("utf-8")).items():
        assert key not in files or (files[key].sha256, files[key].bytes) == (found["sha256"], found["bytes"])
