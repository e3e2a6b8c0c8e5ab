"""Turns whatever went wrong into the contract's failure: a JobError as it is, a known condition by its own code,
anything else as INTERNAL with the facts in the log alone."""

import errno
import logging

from engine.errors import DiskFull, Internal, JobError, OutOfMemory

log = logging.getLogger(__name__)

# What the CUDA runtime says when its context is gone for good: no later call in this process will succeed.
STICKY = (
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "device-side assert",
    "unspecified launch failure",
    "hardware stack error",
    "uncorrectable ecc",
    "cuda error: unknown error",
    "gpu is lost",
)


def as_job_error(error: BaseException, job_id: str) -> JobError:
    """The failure a caller is told; what is not theirs goes to the log with its traceback."""
    if isinstance(error, JobError):
        return error
    told = _told(error, job_id)
    told.stage = getattr(error, "stage", None)  # which the clock left there
    return told


def _told(error: BaseException, job_id: str) -> JobError:
    log.error("job failed", exc_info=error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory(
            "the job did not fit into memory", hint="ask for a smaller size, a smaller tile or fewer frames per batch"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("the worker's disk is full", hint="send the job again; it will reach a worker with more room")
    if type(error).__name__ == "CheckpointMismatch":  # by name, so that nothing heavy is imported to tell
        return Internal(
            f"a weight file of the worker is not what it should be: {error}",
            hint="bake the published file into the image again, or put it into MODELS_DIR anew",
        )
    if device_lost(error):
        return Internal("the worker's GPU failed; a fresh worker was asked for", hint="send the job again")
    return Internal(f"an error of ours; the worker's log has it under job {job_id}", hint="send the job again")


def device_lost(error: BaseException) -> bool:
    """True when the device is beyond repair in this process."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda" in text and any(phrase in text for phrase in STICKY)
