"""The progress bar of a local run."""

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

from engine.jobs.progress import Report


class Bar:
    """A sink that draws reports on standard error."""

    def __init__(self) -> None:
        self._bar = tqdm(total=100, file=sys.stderr, bar_format="{percentage:3.0f}% |{bar:30}| {desc}", leave=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def __call__(self, report: Report) -> None:
        eta = f", {report['eta_s']:.0f} s left" if "eta_s" in report else ""
        self._bar.set_description_str(f"{report['stage']}: {report['message']}{eta}", refresh=False)
        self._bar.update(report["progress"] - self._bar.n)
