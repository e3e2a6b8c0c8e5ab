"""Notes: what a job should tell its caller although it succeeded. They become the reply's `warnings`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """`code` is stable and in capitals; `message` is one sentence for a person."""

    code: str
    message: str
