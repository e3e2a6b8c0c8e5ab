"""Reading a JSON object into one of our models, with every wrong field told at once and in our own words.

Pydantic declares and checks; this module resolves aliases first, so that a problem names the field as its caller wrote
it, and words the problems itself, because a value may be a secret or ten megabytes of base64.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, get_args

from annotated_types import MaxLen
from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from engine.errors import InvalidInput, Problem
from engine.jobs.wording import brief, choices, kind, listed, members, rule, shown

OURS = "ours"
MAX_SEED = 2**53 - 1  # the largest whole number that every JSON reader keeps exactly
MOST_UNKNOWN = 10
FEW = 6


class Fields(BaseModel):
    """A frozen object of the contract. Strict: a text is no number, a boolean neither, NaN and infinity nothing."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        populate_by_name=True,
        allow_inf_nan=False,
        loc_by_alias=False,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _text_can_be_written(cls, value: object) -> object:
        """JSON can spell half a surrogate pair, which no file name and no header can hold."""
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise wrong("is not valid Unicode: it holds half a character") from None
        return value

    def clashes(self) -> "Iterator[Clash]":
        """Fields that are right each by itself and wrong together."""
        yield from ()


@dataclass(frozen=True, slots=True)
class Clash:
    """`text` may hold `{field}`, which becomes the name that the caller used. The first field is the one blamed."""

    fields: tuple[str, ...]
    text: str


M = TypeVar("M", bound=Fields)
Elsewhere = Callable[[str], str | None]


def wrong(text: str) -> PydanticCustomError:
    """What a validator raises: `text` is told as it stands."""
    return PydanticCustomError(OURS, "{text}", {"text": text})


def aliases(field: FieldInfo) -> tuple[str, ...]:
    """The other names of a field."""
    choices = field.validation_alias
    return tuple(str(c) for c in choices.choices) if isinstance(choices, AliasChoices) else ()


@cache
def names(model: type[Fields]) -> Mapping[str, str]:
    """Every name a caller may use -> the canonical one."""
    own = {name: name for name in model.model_fields}
    return own | {other: name for name, field in model.model_fields.items() for other in aliases(field)}


def read(model: type[M], given: Mapping[Any, Any], elsewhere: Elsewhere = lambda _: None) -> M:
    """`given` as a `model`. null counts as not given. `elsewhere` may say where an unknown name does belong.

    Raises InvalidInput.
    """
    given = {key: value for key, value in given.items() if value is not None}
    problems = list(_unknown(model, given, elsewhere))
    values, written = _canonical(model, given, problems)
    wrong_names = {name for name in values if _nested(model, values, name, written[name], problems)}
    for name in wrong_names:
        del values[name]
    try:
        made: M | None = model.model_validate(values)
    except ValidationError as error:
        found = _first_by_field(error)
        problems += [_problem(model, name, found[name], values, written) for name in found]
        wrong_names |= found.keys()
        made = _remaining(model, {k: v for k, v in values.items() if k not in wrong_names})
    if made is not None:
        problems += _clashes(made, wrong_names, written)
    if problems:
        raise InvalidInput(problems)
    assert made is not None
    return made


def _unknown(model: type[Fields], given: Mapping[Any, Any], elsewhere: Elsewhere) -> Iterator[Problem]:
    known = names(model)
    unknown = [str(key) for key in given if key not in known]
    for key in unknown[:MOST_UNKNOWN]:
        yield Problem(brief(key) or "input", f"unknown field `{brief(key)}`; {_advice(key, known, elsewhere)}")
    if len(unknown) > MOST_UNKNOWN:
        yield Problem("input", f"{len(unknown) - MOST_UNKNOWN} more unknown fields")


def _advice(key: str, known: Mapping[str, str], elsewhere: Elsewhere) -> str:
    if (place := elsewhere(key)) is not None:
        return place
    near = nearest(key, known)
    if near:
        return f"did you mean {listed(f'`{n}`' for n in near)}?"
    canonical = dict.fromkeys(known.values())
    few = len(canonical) <= FEW
    return f"known are {listed((f'`{n}`' for n in canonical), 'and')}" if few else "docs/fields.md lists the known ones"


def nearest(name: str, among: Iterable[str], most: int = 1) -> list[str]:
    """The names most like `name`, at most `most`; none when nothing is like it."""
    lower = {other.casefold(): other for other in among}
    return [lower[n] for n in get_close_matches(name[:64].casefold().replace("-", "_"), lower, n=most, cutoff=0.6)]


def _canonical(
    model: type[Fields], given: Mapping[Any, Any], problems: list[Problem]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Values by canonical name, and the name that the caller wrote for each."""
    values: dict[str, Any] = {}
    written: dict[str, str] = {}
    known = names(model)
    for key, value in given.items():
        if key not in known:
            continue
        name = known[key]
        value = _tidy(model.model_fields[name], value)
        if name in values and not _same(values[name], value):
            problems.append(Problem(key, f"differs from `{written[name]}`, which is the same field: give one of them"))
        elif name not in values:
            values[name], written[name] = value, key
    return values, written


def _same(one: object, other: object) -> bool:
    try:
        return type(one) is type(other) and one == other
    except RecursionError:  # a list of lists of lists ..., which is wrong anyway
        return False


def _tidy(field: FieldInfo, value: Any) -> Any:
    """JSON's spellings of one thing: 5.0 is 5, a list is a tuple, `H264` is the choice `h264`."""
    if isinstance(value, float):
        return _integral(value)
    if isinstance(value, list):
        return tuple(_integral(part) for part in value) if len(value) <= FEW else value
    if isinstance(value, str) and len(value) <= 32 and choices(field):
        return value.strip().lower()
    return value


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _nested(model: type[Fields], values: dict[str, Any], name: str, written: str, problems: list[Problem]) -> bool:
    """Read the object, or the list of objects, `values[name]` in place. True when it is wrong."""
    field, given, before = model.model_fields[name], values[name], len(problems)
    if isinstance(given, Mapping):
        if shapes := _shapes(members(field.annotation)):
            values[name] = _object(shapes, given, written, problems)
    elif isinstance(given, list | tuple):
        shapes = _shapes(part for member in members(field.annotation) for part in get_args(member))
        if shapes and len(given) <= _most(field):
            items = (_object(shapes, item, f"{written}[{index}]", problems) for index, item in enumerate(given))
            values[name] = tuple(items)
    return len(problems) > before


def _shapes(annotations: Iterable[Any]) -> list[type[Fields]]:
    """Those of the annotations that are objects of ours."""
    return [each for each in annotations if isinstance(each, type) and issubclass(each, Fields)]


def _most(field: FieldInfo) -> int:
    """How many parts a list may have. A longer one is left to the field's own check."""
    return next((bound.max_length for bound in field.metadata if isinstance(bound, MaxLen)), 0)


def _object(shapes: list[type[Fields]], given: object, written: str, problems: list[Problem]) -> Fields | None:
    """`given` as the shape most like it; None when it is wrong."""
    if not isinstance(given, Mapping):
        problems.append(Problem(written, f"must be an object, not {kind(given)}"))
        return None
    shape = max(shapes, key=lambda s: _likeness(s, given))
    try:
        return read(shape, given, lambda key: _of_another_shape(key, shape, shapes, given))
    except InvalidInput as error:
        problems += [Problem(f"{written}.{p.field}", p.text) for p in error.problems]
    return None


def _shared(shape: type[Fields], given: Mapping[Any, Any]) -> list[str]:
    """The names in `given` that `shape` knows."""
    known = names(shape)
    return [key for key, value in given.items() if key in known and value is not None] if len(given) < 100 else []


def _likeness(shape: type[Fields], given: Mapping[Any, Any]) -> tuple[int, int]:
    """How many of the names a shape knows, and how many of those it cannot do without."""
    shared, known = _shared(shape, given), names(shape)
    return len(shared), sum(shape.model_fields[known[key]].is_required() for key in shared)


def _of_another_shape(
    key: str, shape: type[Fields], shapes: Iterable[type[Fields]], given: Mapping[Any, Any]
) -> str | None:
    shared = _shared(shape, given)
    if not shared or not any(key in names(other) for other in shapes):
        return None
    return f"it does not go with {listed((f'`{n}`' for n in shared), 'and')}"


def _first_by_field(error: ValidationError) -> dict[str, ErrorDetails]:
    found: dict[str, ErrorDetails] = {}
    for detail in error.errors(include_url=False, include_input=False):
        found.setdefault(str(detail["loc"][0]), detail)
    return found


def _problem(
    model: type[Fields], name: str, detail: ErrorDetails, values: Mapping[str, Any], written: Mapping[str, str]
) -> Problem:
    field = model.model_fields[name]
    as_written = written.get(name, name)
    if detail["type"] == OURS:
        return Problem(as_written, detail["msg"])
    if name not in values:
        return Problem(as_written, f"is required: {field.description or rule(field)}")
    value = values[name]
    what = shown(value) if field.repr else kind(value)
    near = nearest(value, choices(field)) if isinstance(value, str) and field.repr else []
    advice = f"; did you mean `{near[0]}`?" if near else ""
    return Problem(as_written, f"must be {rule(field)}, not {what}{advice}")


def _remaining(model: type[M], values: Mapping[str, Any]) -> M | None:
    """What can be made of the fields that are right, to look for clashes among them."""
    try:
        return model.model_validate(values)
    except ValidationError:
        return None


def _clashes(made: Fields, wrong_names: set[str], written: Mapping[str, str]) -> Iterator[Problem]:
    for clash in made.clashes():
        if wrong_names.isdisjoint(clash.fields):
            said = {name: f"`{written.get(name, name)}`" for name in clash.fields}
            yield Problem(written.get(clash.fields[0], clash.fields[0]), clash.text.format_map(said))
