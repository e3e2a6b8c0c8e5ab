"""Amounts in words, for a person: bytes and numbers of files."""

UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def size(count: float | None) -> str:
    """Bytes as people say them: `3.39 GB`; a question mark where nobody knows."""
    if count is None:
        return "?"
    for unit, name in UNITS:
        if count >= 0.9995 * unit:  # what would be 1,000 of the unit below
            return f"{count / unit:.3g} {name}" if count < 1000 * unit else f"{count / unit:,.0f} {name}"
    return f"{count:.0f} bytes"


def number_of_files(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} file" if count == 1 else f"{count:,} files"
