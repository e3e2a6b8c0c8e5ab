"""Everything a job can fail with that its caller can act on. Anything else is our bug and becomes INTERNAL.

    JobError                      code, message, hint, field, stage, retryable
    ├── InvalidInput              INVALID_INPUT, with every wrong field at once
    ├── UnknownModel              UNKNOWN_MODEL
    ├── ModelNotBaked             MODEL_NOT_BAKED
    ├── SourceUnreachable         SOURCE_UNREACHABLE        retryable
    ├── SourceForbidden           SOURCE_FORBIDDEN
    ├── SourceNotFound            SOURCE_NOT_FOUND
    ├── SourceBlocked             SOURCE_BLOCKED
    ├── SourceTooLarge            SOURCE_TOO_LARGE
    ├── SourceUnsupported         SOURCE_UNSUPPORTED
    ├── SourceCorrupt             SOURCE_CORRUPT
    ├── NoDestination             NO_DESTINATION
    ├── UploadFailed              UPLOAD_FAILED             retryable
    ├── DiskFull                  DISK_FULL                 retryable
    ├── OutOfMemory               OUT_OF_MEMORY
    ├── Cancelled                 CANCELLED
    ├── TimedOut                  TIMED_OUT                 retryable
    └── Internal                  INTERNAL                  retryable

The code is stable; the message is one sentence for a person that says what was wrong and what would be right. No
message holds a secret, a signature or a path of this machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class JobError(Exception):
    """Something the caller can act on."""

    code = "INTERNAL"
    retryable = False

    def __init__(
        self, message: str, *, hint: str | None = None, field: str | None = None, stage: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.stage = stage

    def reply(self) -> dict[str, Any]:
        """The failure as the contract words it; `error` is what makes the platform say FAILED."""
        return {
            "error": f"{self.code}: {self.message}",
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "field": self.field,
            "stage": self.stage,
            "retryable": self.retryable,
        }


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong field: its canonical or given name, and a sentence part that says what would be right."""

    field: str
    text: str


class InvalidInput(JobError):
    code = "INVALID_INPUT"

    def __init__(self, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        super().__init__("; ".join(f"{p.field}: {p.text}" for p in problems), hint=hint, field=problems[0].field)
        self.problems = tuple(problems)

    def reply(self) -> dict[str, Any]:
        return {**super().reply(), "problems": [{"field": p.field, "message": p.text} for p in self.problems]}


class UnknownModel(JobError):
    code = "UNKNOWN_MODEL"


class ModelNotBaked(JobError):
    code = "MODEL_NOT_BAKED"


class SourceUnreachable(JobError):
    code = "SOURCE_UNREACHABLE"
    retryable = True


class SourceForbidden(JobError):
    code = "SOURCE_FORBIDDEN"


class SourceNotFound(JobError):
    code = "SOURCE_NOT_FOUND"


class SourceBlocked(JobError):
    code = "SOURCE_BLOCKED"


class SourceTooLarge(JobError):
    code = "SOURCE_TOO_LARGE"


class SourceUnsupported(JobError):
    code = "SOURCE_UNSUPPORTED"


class SourceCorrupt(JobError):
    code = "SOURCE_CORRUPT"


class NoDestination(JobError):
    code = "NO_DESTINATION"


class UploadFailed(JobError):
    code = "UPLOAD_FAILED"
    retryable = True


class DiskFull(JobError):
    code = "DISK_FULL"
    retryable = True


class OutOfMemory(JobError):
    code = "OUT_OF_MEMORY"


class Cancelled(JobError):
    code = "CANCELLED"


class TimedOut(JobError):
    code = "TIMED_OUT"
    retryable = True


class Internal(JobError):
    code = "INTERNAL"
    retryable = True
