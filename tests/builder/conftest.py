"""A mirror, a folder to bake into, and the command, which the tests of baking share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builder.baking import Bake, runner
from tests.builder.mirror import HERE, catalog, publish
from tests.storage.servers import Server, serving


@pytest.fixture
def web() -> Iterator[Server]:
    """A mirror that has every file."""
    with serving(publish(Server())) as server:
        yield server


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock.json"


@pytest.fixture
def bake(capsys: pytest.CaptureFixture[str], tmp_path: Path, lock: Path) -> Bake:
    """The command with a catalog whose files only a mirror has."""
    return runner(capsys, catalog(tmp_path / "catalog.toml", HERE), lock)
