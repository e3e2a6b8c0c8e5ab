"""Whatever JSON comes in: a request or a refusal, in bounded words and bounded time."""

import json
import math
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput, JobError
from engine.jobs.fields import names
from engine.jobs.requests import ACTIONS, REQUESTS, parse

KNOWN = sorted({name for model in REQUESTS.values() for name in names(model)})
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=50)
    | st.sampled_from(["auto", "s3://b/k", "https://a/b", "1080p", "832*480", "{x}", "{0}"])
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)
nested = st.dictionaries(
    st.sampled_from([*KNOWN, "bucket", "key", "put_url", "volume", "accessId"]), anything, max_size=6
)
inputs = st.fixed_dictionaries(
    {}, optional={"action": st.sampled_from([*ACTIONS, "x"]), "source": st.just("https://a/b") | anything}
)


def outcome(job: dict[str, Any]) -> JobError | None:
    """The refusal, held to what every refusal must be."""
    try:
        parse(job)
    except JobError as error:
        assert isinstance(error, InvalidInput)
        text = json.dumps(error.reply(), allow_nan=False)
        assert len(text) < 20_000
        assert all(problem.text and problem.field for problem in error.problems)
        assert "pydantic" not in text
        return error
    return None


@given(anything, anything)
def test_any_json_is_parsed_or_refused(given_: Any, config: Any) -> None:
    outcome({"id": "x", "input": given_, "s3Config": config})


@settings(max_examples=300)
@given(inputs, st.dictionaries(st.sampled_from(KNOWN), anything | nested, max_size=12), nested)
def test_any_values_of_known_fields_are_parsed_or_refused(
    base: dict[str, Any], fields: dict[str, Any], config: dict[str, Any]
) -> None:
    outcome({"input": {**fields, **base}, "s3Config": config})


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_request_holds_a_number_that_json_cannot(value: float) -> None:
    for name in ("start", "end", "outscale", "output_magnification", "strength", "timeout_s", "denoise_strength"):
        refused = outcome({"input": {"source": "a.mp4", name: value}})
        assert math.isfinite(value) or refused is not None


def test_parsing_takes_time_in_proportion_to_the_input() -> None:
    big = {
        "source": "x" * 5_000_000,
        "codec": "y" * 5_000_000,
        "batch_size": [[1] * 1000] * 1000,
        "k" * 5_000_000: 1,
        "prompt_": "z" * 5_000_000,
        **{f"resolution{i}" * 50: i for i in range(20_000)},
    }
    began = time.perf_counter()
    assert outcome({"input": big}) is not None
    assert time.perf_counter() - began < 5  # seconds; squared, it would be hours


def test_deeply_nested_lists_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    other: list[Any] = []
    for _ in range(100_000):
        other = [other]
    assert outcome({"input": {"source": deep, "url": other, "codec": deep, "output_dims": deep}}) is not None
