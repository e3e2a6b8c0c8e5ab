"""What the pages for people say exists: links, anchors, commands, files, settings, and requests that are taken."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.jobs import schema
from engine.jobs.requests import parse
from engine.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("catalogs/*.md")])
README = (ROOT / "README.md").read_text("utf-8")
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in PAGES}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?:\]\(|src=\")([^)\s\"]+)[)\"]")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
NOT_OURS = re.compile(
    r"(RUNPOD|ADA|AMPERE|HOPPER|OMP|STORAGE)_|IN_QUEUE$|IN_PROGRESS$"
)  # RunPod's words, and libraries'
QUOTED = re.compile(r"(?:-d|--test_input) '(\{.*?\})'", re.DOTALL)


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    for target in LINK.findall(FENCE.sub("", TEXTS[page])):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (here / path).resolve() if path else ROOT / page
        assert found.exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(found.read_text("utf-8")), f"{page} links to {target}"


def test_the_contents_list_every_section() -> None:
    listed = LINK.findall(section("Contents"))
    sections = re.findall(r"^## (.+)$", FENCE.sub("", README), re.MULTILINE)
    missing = [title for title in sections if title != "Contents" and f"#{slug(title)}" not in listed]
    assert missing == []


@pytest.mark.parametrize("page", TEXTS)
def test_json_is_json(page: str) -> None:
    for language, block in FENCE.findall(TEXTS[page]):
        if language == "json":
            json.loads(block)


def test_every_request_that_is_shown_is_taken() -> None:
    judge = jsonschema.Draft202012Validator(schema.json_schema())
    shown = [job for text in TEXTS.values() for job in jobs(text)]
    assert len(shown) > 10
    for job in shown:
        judge.validate(job["input"])
        parse(job)


def test_the_endpoint_that_the_api_makes_is_the_one_that_the_hub_describes() -> None:
    (body,) = [json.loads(text) for text in QUOTED.findall(section("Deploy")) if '"image"' in text]
    hub = json.loads((ROOT / ".runpod" / "hub.json").read_text("utf-8"))["config"]
    assert body["gpu"]["minCudaVersion"] == min(hub["allowedCudaVersions"])
    assert set(body["gpu"]["pools"]) <= set(hub["gpuIds"].split(","))
    assert body["disk"] == hub["containerDiskInGb"]
    assert {name.lower() for name in body["env"]} <= Settings.model_fields.keys()


@pytest.mark.parametrize("page", TEXTS)
def test_modules_make_targets_and_files_that_are_named_exist(page: str) -> None:
    code = "\n".join([*(block for _, block in FENCE.findall(TEXTS[page])), *CODE.findall(FENCE.sub("", TEXTS[page]))])
    modules = re.findall(r"python -m ((?:benchmarks|builder|engine|tests)[\w.]*)", code)
    assert [name for name in modules if not is_module(name)] == []
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert [name for name in re.findall(r"^make (\w+)", code, re.MULTILINE) if f"\n{name}:" not in makefile] == []
    files = re.findall(r"(?<![\w/.-])((?:benchmarks|builder|catalogs|docs|engine|tests)/[\w/.-]*\w)", code)
    assert [name for name in files if not (ROOT / name).exists() and not name.endswith("mine.toml")] == []


def test_bake_targets_that_are_named_exist() -> None:
    named = set(re.findall(r"docker buildx bake (?:--\w+ )*([a-z0-9][\w.-]*)", "\n".join(TEXTS.values())))
    recipe = "".join(path.read_text("utf-8") for path in ROOT.glob("docker-bake.hcl"))
    assert named <= set(re.findall(r'"([\w.-]+)"', recipe))


def test_settings_codes_and_arguments_that_are_named_exist() -> None:
    known = {name.upper() for name in Settings.model_fields}
    for path in [
        *ROOT.glob("engine/**/*.py"),
        *ROOT.glob("builder/**/*.py"),
        *ROOT.glob("Docker*"),
        *ROOT.glob("*.hcl"),
        *ROOT.glob(".github/workflows/*.yml"),
    ]:
        known.update(NAME.findall(path.read_text("utf-8")))
    named = {
        name for text in TEXTS.values() for code in CODE.findall(FENCE.sub("", text)) for name in NAME.findall(code)
    }
    assert sorted(name for name in named - known if not NOT_OURS.match(name)) == []


def test_the_table_of_gpus_tells_the_catalogs_numbers() -> None:
    stated = {name: row[2:4] for row in rows(TEXTS["docs/models.md"]) for name in CODE.findall(row[0])}
    told = {
        CODE.findall(row[0])[0]: row[1:3] for row in rows(TEXTS["docs/gpus.md"]) if row[0].startswith(("`seed", "`wan"))
    }
    assert len(told) > 5
    assert told == {name: stated[name] for name in told}


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every line of the tables."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """Of all headings; of two alike the second has a number behind it."""
    found: dict[str, int] = {}
    for title in HEADING.findall(FENCE.sub("", text)):
        found[slug(title)] = found.get(slug(title), 0) + 1
    return {name if n == 0 else f"{name}-{n}" for name, count in found.items() for n in range(count)}


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def jobs(text: str) -> Iterator[dict[str, Any]]:
    """Requests in fences, on command lines and between backticks; an object alone that names a source is an input."""
    fences = FENCE.findall(text)
    given = [block for language, block in fences if language == "json"]
    given += [quoted for language, block in fences if language == "bash" for quoted in QUOTED.findall(block)]
    given += [code for code in CODE.findall(FENCE.sub("", text)) if code.startswith('{"')]
    for piece in given:
        try:
            made = json.loads(piece)
        except ValueError:
            continue
        if "input" in made:
            yield made
        elif made.keys() & {"prompt", "source"} and "status" not in made:
            yield {"input": made}
