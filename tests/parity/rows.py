"""What a golden's check finds, and the kinds of goldens there are."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One compared tensor: its largest error and PSNR, and the figure `of` the error that must not pass `limit`."""

    name: str
    error: float
    psnr: float
    figure: float
    limit: float
    of: str

    @property
    def ok(self) -> bool:
        return self.figure <= self.limit  # false for NaN too


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


def compare(name: str, got: Tensor, wanted: Tensor, limit: float) -> Row:
    """The largest error as a share of the largest wanted value."""
    return _row(name, got, wanted, limit, "relative", lambda e, w: e.max() / max(w.abs().max().item(), 1e-30))


def compare_max(name: str, got: Tensor, wanted: Tensor, limit: float) -> Row:
    """The largest error."""
    return _row(name, got, wanted, limit, "max", lambda e, w: e.max())


def compare_mean(name: str, got: Tensor, wanted: Tensor, limit: float) -> Row:
    """The mean error."""
    return _row(name, got, wanted, limit, "mean", lambda e, w: e.mean())


def compare_share(name: str, got: Tensor, wanted: Tensor, above: float, limit: float) -> Row:
    """The share of values whose error is above `above`."""
    return _row(name, got, wanted, limit, f"share>{above:g}", lambda e, w: (~(e <= above)).double().mean())


def exact(name: str, same: bool) -> Row:
    """Things that must be equal, such as names and integers."""
    wrong = 0.0 if same else 1.0
    return Row(name, wrong, math.inf if same else 0.0, wrong, 0.0, "equal")


def _row(
    name: str, got: Tensor, wanted: Tensor, limit: float, of: str, figure: Callable[[Tensor, Tensor], Tensor | float]
) -> Row:
    if got.shape != wanted.shape:
        nan = math.nan
        return Row(f"{name} is {tuple(got.shape)}, not {tuple(wanted.shape)}", nan, nan, nan, limit, of)
    got, wanted = got.double(), wanted.double()
    error = (got - wanted).abs()
    return Row(name, error.max().item(), psnr(got, wanted), float(figure(error, wanted)), limit, of)


def psnr(got: Tensor, wanted: Tensor) -> float:
    """Decibels, the wanted values' spread being the peak."""
    noise = (got - wanted).square().mean().item()
    peak = (wanted.max() - wanted.min()).item() or 1.0
    return 10 * math.log10(peak**2 / noise) if noise else math.inf
