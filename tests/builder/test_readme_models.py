"""The README's table of models is the catalog's."""

from pathlib import Path

import pytest

from builder import readme
from engine.catalog import built_in

ROOT = Path(__file__).parents[2]


def test_the_readme_lists_the_models_of_the_catalog() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert readme.filled(text, built_in()) == text, "run: python -m builder.readme --write README.md"


def test_every_model_and_lora_has_a_row() -> None:
    table = readme.models_table(built_in())
    for name in (owner.name for owner in (*built_in().models, *built_in().loras)):
        assert f"| `{name}`" in table


def test_a_row_tells_names_words_size_and_memory() -> None:
    rows = readme.models_table(built_in()).splitlines()
    row = next(row for row in rows if row.startswith("| `seedvr2_3b_fp8_e4m3fn`, `seedvr2-3b-fp8` |"))
    assert "current weights" in row and " 3.9 GB |" in row and row.endswith(" GB |")


def test_a_size_that_is_estimated_is_told_so() -> None:
    rows = readme.models_table(built_in()).splitlines()
    assert "about" in next(row for row in rows if row.startswith("| `wan21-i2v-720p`"))


def test_writing_replaces_only_what_lies_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.main(["--write", str(page)])
    once = page.read_text()
    readme.main(["--write", str(page)])
    assert page.read_text() == once
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "\nold\n" not in once


def test_a_missing_marker_is_told() -> None:
    with pytest.raises(ValueError, match="models:begin"):
        readme.filled("no markers", built_in())
