"""How a field's rule and a wrong value are put into words: for problems, and for the tables of docs/fields.md.

The rule comes from the field's own annotation and bounds, so that no sentence can disagree with what is checked.
"""

from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

LONGEST_SHOWN = 40
LARGEST_SHOWN = 10**15
NOUNS = {bool: "`true` or `false`", int: "a whole number", float: "a number", str: "a text", SecretStr: "a text"}


def shown(value: object) -> str:
    """`value` as JSON would show it, never longer than a few words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str() if value.lower() in ("true", "false"):
            return f'the text `"{value}"`'
        case str():
            return f"`{brief(value)}`" if value else "an empty text"
        case int() if abs(value) > LARGEST_SHOWN:
            return "a number that large"
        case int() | float():
            return str(value)
        case list() | tuple():
            return _shown_list(value)
        case _:
            return "an object"


def brief(text: str) -> str:
    """`text` on one line, cut where it gets long."""
    cut = text[:LONGEST_SHOWN]
    line = "".join(c if c.isprintable() and c != "`" else "?" for c in cut)
    return line if len(text) == len(cut) else f"{line}…"


def kind(value: object) -> str:
    """What sort of thing `value` is, for fields whose content must not be repeated."""
    match value:
        case str():
            return f"a text of {len(value)} characters" if value else "an empty text"
        case None | bool():
            return shown(value)
        case int() | float():
            return "a number"
        case _:
            return "a list" if isinstance(value, list | tuple) else "an object"


def rule(field: FieldInfo) -> str:
    """What a field accepts, as the end of the sentence "must be ..."."""
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "x-rule" in extra:
        return str(extra["x-rule"])
    return listed(_rules(field.annotation, tuple(field.metadata)))


def choices(field: FieldInfo) -> list[str]:
    """The words that a field accepts."""
    literals = (member for member in members(field.annotation) if get_origin(member) is Literal)
    return [option for literal in literals for option in get_args(literal)]


def listed(words: Iterable[str], last: str = "or") -> str:
    """`a, b or c`."""
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end


def members(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, None left out."""
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from members(part)
    elif annotation is not NoneType:
        yield annotation


def _shown_list(values: list[Any] | tuple[Any, ...]) -> str:
    plain = len(values) <= 4 and all(isinstance(v, bool | int | float | None) for v in values)
    return f"[{', '.join(shown(v) for v in values)}]" if plain else f"a list of {len(values)}"


def _rules(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[str]:
    for member in members(annotation):
        if get_origin(member) is Annotated:
            inner, *own = get_args(member)
            own = [m for o in own for m in (o.metadata if isinstance(o, FieldInfo) else [o])]
            yield from _rules(inner, (*metadata, *own))
        elif get_origin(member) is Literal:
            yield from (f"`{option}`" for option in get_args(member))
        elif member in NOUNS:
            yield NOUNS[member] + (_bounds(metadata) if member in (int, float) else _length(metadata))
        elif isinstance(member, type) and issubclass(member, BaseModel):
            yield "an object"


def _bounds(metadata: Iterable[Any]) -> str:
    low, high = "", ""
    for bound in metadata:
        match bound:
            case Ge():
                low = f"from {bound.ge}"
            case Gt():
                low = f"above {bound.gt}"
            case Le():
                high = f"to {bound.le}" if low.startswith("from") else f"up to {bound.le}"
            case Lt():
                high = f"below {bound.lt}"
    return "".join(f" {part}" for part in (low, high) if part)


def _length(metadata: Iterable[Any]) -> str:
    lengths = {type(bound): bound for bound in metadata if isinstance(bound, MinLen | MaxLen)}
    match lengths.get(MinLen), lengths.get(MaxLen):
        case MinLen(least), MaxLen(most):
            return f" of {least} to {most} characters"
        case None, MaxLen(most):
            return f" of at most {most} characters"
        case MinLen(), None:
            return " that is not empty"
    return ""
