"""What a job asks for: the caller's JSON ends here; behind the door stand frozen requests, never checked again.

`parse` is all that is called. The fields are declared in `*_fields` and `outputs`, and read by `fields`. Importing this
module costs pydantic and nothing else.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from engine.errors import InvalidInput, Problem
from engine.jobs.fields import Fields, names, nearest, read
from engine.jobs.generate_fields import GenerateFields
from engine.jobs.model_field import ModelField
from engine.jobs.outputs import OutputFields
from engine.jobs.source_fields import SourceFields
from engine.jobs.upscale_fields import UpscaleFields
from engine.jobs.wording import brief, kind, listed

SMALLEST = '{"source": "https://example.com/clip.mp4"}'
HINT = f'the smallest input is {SMALLEST}; {{"action": "info"}} asks what this worker offers'


class UpscaleRequest(OutputFields, UpscaleFields, SourceFields):
    """A video or an image in, restored and enlarged out. `dry_run` is true when only an estimate was asked for."""

    action: Literal["upscale"] = "upscale"


class GenerateRequest(OutputFields, GenerateFields):
    """Text, an image or a video in, a new video out. `kind` is the task; `dry_run` as for UpscaleRequest."""

    action: Literal["generate"] = "generate"


class InfoRequest(Fields):
    """Asks what this worker is and offers."""

    action: Literal["info"] = "info"


class WarmRequest(ModelField):
    """Asks to load a model ahead of jobs."""

    action: Literal["warm"] = "warm"


class OffloadRequest(Fields):
    """Asks to free the GPU."""

    action: Literal["offload"] = "offload"


Request = UpscaleRequest | GenerateRequest | InfoRequest | WarmRequest | OffloadRequest
REQUESTS: dict[str, type[Request]] = {
    "upscale": UpscaleRequest,
    "generate": GenerateRequest,
    "info": InfoRequest,
    "warm": WarmRequest,
    "offload": OffloadRequest,
}
ACTIONS = ("upscale", "generate", "estimate", "info", "warm", "offload")


def parse(job: Mapping[str, Any]) -> Request:
    """The request in a job as RunPod delivers it. Raises InvalidInput with every wrong field, and nothing else."""
    given = _unwrap(job)
    fields = {key: value for key, value in given.items() if key != "action"}
    action = _action(given)
    if action == "estimate":
        fields = _planned(fields)
        action = _default_action(fields)
    model = REQUESTS[action]
    if issubclass(model, OutputFields) and job.get("s3Config"):
        fields["s3Config"] = job["s3Config"]
    return read(model, fields, lambda key: _elsewhere(key, action))


def _unwrap(job: Mapping[str, Any]) -> Mapping[Any, Any]:
    """The input's fields. RunPod's client wraps a falsy input a second time."""
    given = job.get("input") if isinstance(job, Mapping) else None
    if isinstance(given, Mapping) and list(given) == ["input"]:
        given = given["input"]
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput([Problem("input", f"must be an object, not {kind(given)}")], hint=HINT)
    if not given:
        raise InvalidInput([Problem("input", "is empty: say at least what to upscale")], hint=HINT)
    return given


def _action(given: Mapping[Any, Any]) -> str:
    action = given.get("action")
    if action is None:
        return _default_action(given)
    word = action.strip().lower() if isinstance(action, str) and len(action) <= 32 else None
    if word in ACTIONS:
        return word
    near = nearest(action, ACTIONS) if isinstance(action, str) else []
    advice = f"; did you mean `{near[0]}`?" if near else ""
    what = f"`{brief(action)}`" if isinstance(action, str) else kind(action)
    choices = listed(f"`{a}`" for a in ACTIONS)
    raise InvalidInput([Problem("action", f"must be {choices}, not {what}{advice}")], hint=HINT)


def _default_action(given: Mapping[Any, Any]) -> Literal["upscale", "generate"]:
    return "generate" if given.get("prompt") is not None or given.get("task") is not None else "upscale"


def _planned(fields: dict[Any, Any]) -> dict[Any, Any]:
    if fields.get("dry_run") is False:
        raise InvalidInput([Problem("dry_run", "cannot be false for action `estimate`, which only plans")])
    return {**fields, "dry_run": True} if fields.get("dry_run") is None else fields


def _elsewhere(key: str, action: str) -> str | None:
    """Where a field that `action` does not know does belong."""
    homes = [f"`{name}`" for name, model in REQUESTS.items() if name != action and key in names(model)]
    return f"it belongs to action {listed(homes)}" if homes else None


def sections() -> Iterator[type[Fields]]:
    """The groups of fields, in the order of docs/fields.md."""
    yield from (SourceFields, UpscaleFields, GenerateFields, OutputFields)
