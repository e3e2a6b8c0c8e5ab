"""The tables of models are the catalog's, and an image's row is what the image has."""

from pathlib import Path

import pytest

from builder import readme
from builder.bake.wanted import entries
from engine.catalog import built_in
from engine.jobs.schema import filled
from tests.builder.test_image_targets import TARGETS, slots

ROOT = Path(__file__).parents[2]
TABLES = {"sets": readme.sets_table(built_in()), "models": readme.models_table(built_in())}


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_a_page_lists_the_models_of_the_catalog(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert filled(text, TABLES) == text, f"run: python -m builder.readme --write {page}"


def test_every_image_with_weights_has_a_row_of_what_it_has() -> None:
    images = {target: entries(built_in(), slots(target)) for target in TARGETS if slots(target)}
    assert {name.replace(".", "-"): entries(built_in(), models) for name, models in readme.SETS.items()} == images


def test_files_that_the_models_of_an_image_share_count_once() -> None:
    row = next(row for row in TABLES["sets"].splitlines() if row.startswith("| `all-in-one` |"))
    assert " about 60.0 GB |" in row


def test_every_model_and_lora_has_a_row() -> None:
    table = TABLES["models"]
    for name in (owner.name for owner in (*built_in().models, *built_in().loras)):
        assert f"| `{name}`" in table


def test_a_row_tells_names_words_size_and_memory() -> None:
    rows = TABLES["models"].splitlines()
    row = next(row for row in rows if row.startswith("| `seedvr2_3b_fp8_e4m3fn`, `seedvr2-3b-fp8` |"))
    assert "current weights" in row and " 3.9 GB |" in row and row.endswith(" GB |")


def test_a_size_that_is_estimated_is_told_so() -> None:
    rows = TABLES["models"].splitlines()
    assert "about" in next(row for row in rows if row.startswith("| `wan21-i2v-720p`"))


def test_writing_replaces_only_what_lies_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- models:begin -->\nold\n<!-- models:end -->\nafter\n")
    readme.main(["--write", str(page)])
    assert page.read_text() == f"before\n<!-- models:begin -->\n\n{TABLES['models']}\n\n<!-- models:end -->\nafter\n"
