"""What a fetch is bounded by and what it brings."""

from dataclasses import dataclass
from pathlib import Path

from engine.errors import SourceTooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings of one fetch: bytes, the folders that local paths may lie under, hosts exempt from the address rule."""

    max_bytes: int
    roots: tuple[Path, ...]
    allowed_hosts: frozenset[str] = frozenset()

    def demand_fit(self, size: int) -> None:
        """Raises SourceTooLarge."""
        if size > self.max_bytes:
            raise SourceTooLarge(
                f"the source has {size:,} bytes or more; at most {self.max_bytes:,} are accepted",
                hint="a shorter or smaller file, or a worker with a higher MAX_INPUT_BYTES",
                field="source",
            )


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source on this machine. `name` is its own file name, repaired, from which the result's name is made."""

    path: Path
    name: str
    bytes: int
