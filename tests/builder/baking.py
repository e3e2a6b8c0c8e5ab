"""What the tests of baking share: the command run in this process, and its result."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.bake.command import main
from tests.builder.mirror import FILES
from tests.storage.servers import Handler, Responder, Seen

Bake = Callable[..., "Ran"]


@dataclass(frozen=True)
class Ran:
    """A run of the command: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return [line.partition(": ")[2] for line in self.err.splitlines() if line.startswith("error ")]


def runner(capsys: pytest.CaptureFixture[str], catalog: Path, lock: Path) -> Bake:
    """`python -m builder.bake` with a catalog and a lock file of the test's own."""

    def bake(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = main([*map(str, arguments), "--catalog", str(catalog), "--lock", str(lock)])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return bake


def there(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path, but manifests."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "manifests"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def of(*keys: str) -> dict[str, bytes]:
    return {key: FILES[key] for key in keys}


def halting(content: bytes, at: int, part: Path, then: Callable[[], None]) -> Responder:
    """Sends a file up to a point, calls a function when some of that was written, and hangs up."""

    def respond(handler: Handler, seen: Seen) -> None:
        handler.reply(200, content[:at], Content_Length=str(len(content)))
        handler.wfile.flush()
        while not (part.exists() and part.stat().st_size):
            time.sleep(0.005)
        then()
        handler.hang_up()

    return respond
