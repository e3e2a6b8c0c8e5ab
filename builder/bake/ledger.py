"""The lock file: what was found in files that the catalog states no digest, size or commit of, on their first download.

Held to ever after. `{"<file.key>": {"bytes", "sha256", "revision"?}}`; the catalog's own lies beside it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.bake.errors import BakeError
from engine.manifests import Baked, write_json

Entry = Mapping[str, Any]


class Ledger:
    """One lock file. It need not exist, and need not be writable: then manifests alone carry what was found."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def writable(self) -> bool:
        """True where an entry can be added."""
        return os.access(self.path.parent, os.W_OK) and (not self.path.exists() or os.access(self.path, os.W_OK))

    def entries(self) -> dict[str, Entry]:
        """Everything recorded so far. Raises BakeError."""
        try:
            content: dict[str, Entry] = json.loads(self.path.read_text("utf-8"))
            for key, entry in content.items():
                if not (isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str)):
                    raise TypeError(f"`{key}` has no size or no sha256")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise BakeError(f"the lock file {self.path} cannot be read: {error}") from error
        return content

    def record(self, key: str, found: Baked) -> None:
        """Add what was found in a file. Raises BakeError where another digest or size is recorded."""
        with self._sole():
            entries = self.entries()
            old = entries.get(key)
            if old is not None and (old["sha256"], old["bytes"]) != (found.sha256, found.bytes):
                raise BakeError(
                    f"{key}: the lock file {self.path} holds sha256 {old['sha256']} of {old['bytes']:,} bytes, "
                    f"and this is {found.sha256} of {found.bytes:,}; if the new one is right, take its entry out"
                )
            entry = {"bytes": found.bytes, "sha256": found.sha256}
            entries[key] = entry | ({"revision": found.revision} if found.revision else {})
            write_json(self.path, entries)

    @contextmanager
    def _sole(self) -> Iterator[None]:
        """Alone among processes; the folder is locked, because the file itself is replaced."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
