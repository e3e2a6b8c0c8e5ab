"""The JSON Schema and the tables for readers say what the parser does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.errors import InvalidInput
from engine.jobs import schema
from engine.jobs.requests import parse
from engine.settings import Settings

ROOT = Path(__file__).parents[2]
CLIP = "https://example.com/clip.mp4"
TABLES = {"fields": schema.fields_tables(), "settings": schema.settings_table()}


@pytest.fixture(scope="module")
def judge() -> jsonschema.Draft202012Validator:
    made = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


GOOD: list[dict[str, Any]] = [
    {"source": CLIP},
    {"url": CLIP, "res_h": "2160", "res_w": "3840", "dit_model": "bundled", "batch_size": 5, "container": "mkv"},
    {"video_base64": "AAAA", "resolution": "4k", "output_dims": [33, 17], "dry_run": True},
    {"source": CLIP, "destination": {"bucket": "s3://b/p", "key": "k"}},
    {"source": CLIP, "destination": "inline", "action": "estimate"},
    {"source": CLIP, "s3Config": {"accessId": "a", "accessSecret": "b", "bucketName": "c", "endpointUrl": "https://d"}},
    {"prompt": "a cat", "num_frames": 64, "cfg": 7.5, "upscale": {"outscale": 2}},
    {"task": "i2v", "image_url": CLIP, "size": "832*480"},
    {"action": "estimate", "prompt": "a cat"},
    {"prompt": "a cat", "loras": [{"name": "fast"}, {"name": "film", "strength": 0.5}]},
    {"action": "info"},
    {"action": "warm", "model_id": "bundled"},
    {"action": "offload"},
]
BAD: list[dict[str, Any]] = [
    {},
    {"sauce": CLIP},
    {"source": 5},
    {"source": CLIP, "resolution": "1081p"},
    {"source": CLIP, "height": "tall"},
    {"source": CLIP, "crf": 99},
    {"source": CLIP, "batch_size": "many"},
    {"source": CLIP, "output_dims": [640]},
    {"source": CLIP, "destination": {"bucket": "s3://b", "put_url": "https://a/b"}},
    {"source": CLIP, "steps": 5},
    {"prompt": "a cat", "width": 830, "height": 480},
    {"prompt": "a cat", "loras": [{"strength": 1}]},
    {"prompt": "a cat", "loras": ["fast"]},
    {"action": "information"},
    {"action": "info", "source": CLIP},
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_the_schema_takes_the_parser_takes(fields: dict[str, Any], judge: jsonschema.Draft202012Validator) -> None:
    judge.validate(fields)
    parse({"input": fields})


@pytest.mark.parametrize("fields", BAD)
def test_what_the_schema_refuses_the_parser_refuses(
    fields: dict[str, Any], judge: jsonschema.Draft202012Validator
) -> None:
    assert not judge.is_valid(fields)
    with pytest.raises(InvalidInput):
        parse({"input": fields})


def test_the_schema_is_printed_by_a_command() -> None:
    command = [sys.executable, "-m", "engine.jobs.schema"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == schema.json_schema()


@pytest.mark.parametrize("page", ["README.md", "docs/fields.md"])
def test_a_page_is_what_the_declarations_say(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert schema.filled(text, TABLES) == text, f"run: python -m engine.jobs.schema --write {page}"


def test_writing_replaces_only_what_lies_between_the_markers(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text(
        "before\n<!-- fields:begin -->\nold\n<!-- fields:end -->\nbetween\n"
        "<!-- settings:begin --><!-- settings:end -->\nafter\n"
    )
    other.write_text("<!-- settings:begin --><!-- settings:end -->")
    schema.main(["--write", str(page), str(other)])
    once = page.read_text()
    schema.main(["--write", str(page)])
    assert page.read_text() == once
    assert "| `MODELS` |" in other.read_text() and "| `resolution` |" not in other.read_text()
    assert [line for line in once.splitlines() if line in ("before", "old", "between", "after")] == [
        "before",
        "between",
        "after",
    ]
    assert "| `resolution` |" in once
    assert "| `MODELS` | `bundled` |" in once


@pytest.mark.parametrize("text", ["no markers", "<!-- fields:begin --> and no end"])
def test_a_missing_marker_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="fields:begin"):
        schema.filled(text, TABLES)


def test_every_field_and_every_setting_is_described() -> None:
    for model in [*schema.sections(), Settings]:
        assert [name for name, field in model.model_fields.items() if not field.description] == []
    cells = [line.split("|")[4].strip() for line in schema.fields_tables().splitlines() if line.startswith("| `")]
    assert all(cells)
