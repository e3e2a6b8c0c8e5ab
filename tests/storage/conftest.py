"""Servers, settings and patience that the storage tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.settings import Settings
from engine.storage.patience import Patience
from tests.storage.servers import Server, serving


@pytest.fixture
def web() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


@pytest.fixture
def naps() -> list[float]:
    """Seconds that would have been slept."""
    return []


@pytest.fixture
def patience(naps: list[float]) -> Patience:
    """Waits for nothing, writes down how long it would have waited."""
    return Patience(sleep=naps.append, jitter=lambda: 1.0)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, web: Server) -> Settings:
    """A worker on a developer's machine that may talk to the test's server."""
    return Settings(local_roots=(tmp_path / "root",), allowed_hosts=frozenset({web.host}), max_input_bytes=50_000_000)
