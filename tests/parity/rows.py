"""What a golden's check finds, and the kinds of goldens there are."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One compared tensor: its largest error, that as a share of the largest wanted value, and the share allowed."""

    name: str
    error: float
    relative: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.relative <= self.tolerance  # false for NaN too


class CannotCheck(Exception):
    """What the golden needs is not here; the message says what."""


Check = Callable[[str, Mapping[str, Tensor], Mapping[str, Any]], Iterable[Row]]
KINDS: dict[str, Check] = {}


def kind(*prefixes: str) -> Callable[[Check], Check]:
    """Register a check (name, tensors, sidecar) -> rows for the goldens whose names begin so."""

    def register(check: Check) -> Check:
        KINDS.update(dict.fromkeys(prefixes, check))
        return check

    return register


def check_for(name: str) -> Check | None:
    """The check of the longest prefix that fits."""
    fitting = [prefix for prefix in KINDS if name.startswith(prefix)]
    return KINDS[max(fitting, key=len)] if fitting else None


def compare(name: str, got: Tensor, wanted: Tensor, tolerance: float) -> Row:
    if got.shape != wanted.shape:
        return Row(f"{name} is {tuple(got.shape)}, not {tuple(wanted.shape)}", float("nan"), float("nan"), tolerance)
    error = (got.double() - wanted.double()).abs().max().item()
    return Row(name, error, error / max(wanted.double().abs().max().item(), 1e-30), tolerance)
