"""Sizes, rates and failures in words."""

from collections.abc import Sequence

UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class BakeError(Exception):
    """What went wrong, in one sentence for a person: which file, expected and got, where to look."""


def size(count: float | None) -> str:
    """Bytes as people say them: `3.39 GB`; a question mark where nobody knows."""
    if count is None:
        return "?"
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count < 1000 * unit else f"{count / unit:,.0f} {name}"
    return f"{count:.0f} bytes"


def number_of_files(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} file" if count == 1 else f"{count:,} files"


def duration(seconds: float) -> str:
    """`1:05` or `2:00:09`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells, in columns; the last column is not padded."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])).rstrip()
        for row in rows
    )
