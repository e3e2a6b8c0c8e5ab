"""The contract for readers: a JSON Schema of `input`, and tables of fields and settings, made from the declarations.

python -m engine.jobs.schema                                   prints the JSON Schema
python -m engine.jobs.schema --markdown                        prints the tables
python -m engine.jobs.schema --write README.md docs/fields.md  puts them between the markers of those files
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from engine.jobs.fields import Fields, aliases, names
from engine.jobs.requests import REQUESTS, sections
from engine.jobs.wording import rule
from engine.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """A JSON Schema of a job's `input`: names, aliases, types and bounds, but not what fields demand of each other.

    What it takes, the worker takes; the worker forgives a little more, such as capitals and nulls.
    """
    _, made = models_json_schema([(model, "validation") for model in REQUESTS.values()], by_alias=False)
    shapes = {model.__name__: model for model in _shapes(Fields)}
    defs = {name: _with_aliases(schema, shapes[name]) for name, schema in made["$defs"].items()}
    for action, model in REQUESTS.items():
        defs[model.__name__] |= _demands(action, model)
        defs[model.__name__]["properties"]["action"] = _actions(action)
    return {
        "$schema": DIALECT,
        "title": "input",
        "anyOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in REQUESTS.values()],
        "$defs": defs,
    }


def fields_tables() -> str:
    """The fields of a job's input as Markdown, a table per section."""
    return "\n\n".join(f"## {section.__doc__}\n\n{_fields_table(section)}" for section in sections())


def settings_table() -> str:
    """The environment variables as Markdown. What the platform sets is left out."""
    rows = [
        (f"`{name.upper()}`", _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
        if not name.startswith("runpod_")
    ]
    return _table(("variable", "default", "meaning"), rows)


def filled(text: str, tables: Mapping[str, str]) -> str:
    """`text` with each of the tables that it has markers for between them. Raises ValueError where that is none."""
    there = [name for name in tables if f"<!-- {name}:begin -->" in text]
    if not there:
        raise ValueError(f"there are no markers such as <!-- {next(iter(tables))}:begin -->")
    for name in there:
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"the markers {begin} and {end} must stand there once, in this order")
        block = f"{begin}\n\n{tables[name]}\n\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)  # type: ignore[misc]
    return text


def write(pages: Sequence[Path], tables: Mapping[str, str]) -> None:
    """Fill those files. Raises ValueError as `filled` does."""
    for page in pages:
        page.write_text(filled(page.read_text("utf-8"), tables), "utf-8")


def main(arguments: Sequence[str]) -> None:
    """The command. Writes to standard output, or to the file given."""
    parser = argparse.ArgumentParser(prog="python -m engine.jobs.schema", description="The contract of a job's input.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--markdown", action="store_true", help="print the tables")
    how.add_argument("--write", type=Path, nargs="+", metavar="PAGE.md", help="put them between the files' markers")
    chosen = parser.parse_args(arguments)
    if chosen.write:
        write(chosen.write, {"fields": fields_tables(), "settings": settings_table()})
    elif chosen.markdown:
        sys.stdout.write(f"{fields_tables()}\n\n## Settings\n\n{settings_table()}\n")
    else:
        sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")


def _shapes(model: type[Fields]) -> Iterator[type[Fields]]:
    for each in model.__subclasses__():
        yield each
        yield from _shapes(each)


def _with_aliases(schema: Mapping[str, Any], model: type[Fields]) -> dict[str, Any]:
    """The schema of one object, where every field may be given by any of its names."""
    properties: dict[str, Any] = {}
    for name, about in schema["properties"].items():
        about.pop("title", None)
        properties[name] = about
        for other in aliases(model.model_fields[name]):
            properties[other] = {**about, "description": f"the same as `{name}`"}
    required = [_one_of(_names_of(model, name)) for name in schema.get("required", ())]
    rest = {key: value for key, value in schema.items() if key not in ("properties", "required")}
    return {**rest, "properties": properties} | ({"allOf": required} if required else {})


def _names_of(model: type[Fields], *fields: str) -> list[str]:
    return [name for name, canonical in names(model).items() if canonical in fields]


def _one_of(these: Sequence[str]) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in these]}


def _demands(action: str, model: type[Fields]) -> dict[str, Any]:
    """What must be there for an input to mean this action."""
    match action:
        case "upscale":
            return _one_of(_names_of(model, "source", "source_base64"))
        case "generate":
            return _one_of(["prompt", "task", "action"])
        case _:
            return {"required": ["action"]}


def _actions(action: str) -> dict[str, Any]:
    if action in ("upscale", "generate"):
        return {"enum": [action, "estimate"], "description": "`estimate` only plans"}
    return {"const": action}


def _fields_table(section: type[BaseModel]) -> str:
    rows = [
        (
            f"`{name}`",
            ", ".join(f"`{other}`" for other in aliases(field)),
            _default(field),
            rule(field),
            field.description or "",
        )
        for name, field in section.model_fields.items()
    ]
    return _table(("field", "also", "default", "accepts", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "x-default" in extra:
        return str(extra["x-default"])
    match field.default:
        case None | "" | ():
            return ""
        case bool():
            return f"`{str(field.default).lower()}`"
        case str():
            return f"`{field.default}`"
        case tuple():
            return f"`{':'.join(str(part) for part in field.default)}`"
        case frozenset():
            return ""
        case _:
            return str(field.default)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
