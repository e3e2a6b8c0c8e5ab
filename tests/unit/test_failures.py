"""What a caller is told when something goes wrong: the condition by its code, never a path or a traceback."""

import errno
import json
import math

import pytest

from engine.errors import Internal, InvalidInput, Problem
from engine.jobs.clock import Clock
from engine.jobs.failures import as_job_error, device_lost
from engine.jobs.progress import Progress
from engine.weights.load import CheckpointMismatch
from engine.worker import MAX_REPLY_BYTES, fit_to_send


def test_an_unknown_error_hides_its_text() -> None:
    reply = as_job_error(ValueError("/root/secret/path"), "job-1").reply()
    assert reply["code"] == "INTERNAL"
    assert reply["retryable"] is True
    assert "job-1" in reply["error"]
    assert "secret" not in json.dumps(reply)


def test_a_full_disk_is_named() -> None:
    assert as_job_error(OSError(errno.ENOSPC, "No space left"), "j").code == "DISK_FULL"


def test_an_error_of_ours_says_in_which_stage_it_came() -> None:
    clock = Clock(Progress(lambda report: None))
    with pytest.raises(ZeroDivisionError) as caught, clock("process"):
        raise ZeroDivisionError
    assert as_job_error(caught.value, "j").stage == "process"
    assert clock.stages[0]["status"] == "failed"


def test_memory_that_ran_out_is_named() -> None:
    assert as_job_error(MemoryError(), "j").code == "OUT_OF_MEMORY"


def test_a_failure_of_the_contract_stays_what_it_is() -> None:
    error = InvalidInput([Problem("scale", "9 is above 8"), Problem("seed", "must be a whole number")])
    reply = as_job_error(error, "j").reply()
    assert reply["error"] == "INVALID_INPUT: scale: 9 is above 8; seed: must be a whole number"
    assert [problem["field"] for problem in reply["problems"]] == ["scale", "seed"]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: invalid argument", False),
        ("shape mismatch", False),
    ],
)
def test_a_sticky_device_error_is_told_from_a_bug(text: str, lost: bool) -> None:
    assert device_lost(RuntimeError(text)) is lost


def test_a_checkpoint_that_does_not_fit_names_its_file_and_key() -> None:
    told = as_job_error(CheckpointMismatch("dit.safetensors", missing=["blocks.0.attn.proj_out.weight"]), "j")
    assert told.code == "INTERNAL"
    assert "dit.safetensors: missing blocks.0.attn.proj_out.weight" in told.message
    assert told.hint is not None and "MODELS_DIR" in told.hint


def test_numbers_that_json_lacks_become_null() -> None:
    reply = fit_to_send({"metrics": {"a": math.nan, "b": [math.inf, 1.5]}})
    assert json.loads(json.dumps(reply, allow_nan=False)) == {"metrics": {"a": None, "b": [None, 1.5]}}


def test_a_reply_that_is_too_large_is_refused() -> None:
    with pytest.raises(Internal, match="bytes is over"):
        fit_to_send({"warnings": ["x" * (MAX_REPLY_BYTES + 1)]})


def test_an_inline_result_may_be_larger() -> None:
    assert fit_to_send({"output": {"base64": "A" * 2_000_000}})["output"]["base64"][:1] == "A"
