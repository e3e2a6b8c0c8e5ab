"""Sources on this machine and sources inside the request."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import (
    DiskFull,
    InvalidInput,
    JobError,
    SourceForbidden,
    SourceNotFound,
    SourceTooLarge,
    SourceUnsupported,
)
from engine.settings import Settings
from engine.storage import data
from engine.storage.fetch import Fetcher
from engine.storage.sources import Limits

CONTENT = os.urandom(3_000_001)


@pytest.fixture
def root(settings: Settings) -> Path:
    settings.roots[0].mkdir()
    return settings.roots[0].resolve()


@pytest.fixture
def fetcher(settings: Settings) -> Fetcher:
    return Fetcher(settings)


@pytest.mark.parametrize("form", ["{root}/в/клип 50%.mp4", "file://{root}/%D0%B2/%D0%BA%D0%BB%D0%B8%D0%BF%2050%25.mp4"])
def test_a_file_under_a_root_is_used_where_it_lies(fetcher: Fetcher, root: Path, scratch: Path, form: str) -> None:
    (root / "в").mkdir()
    path = root / "в" / "клип 50%.mp4"
    path.write_bytes(CONTENT)
    for address in (form.format(root=root), "в/клип 50%.mp4", "./в/../в/клип 50%.mp4"):
        got = fetcher.fetch(address, scratch)
        assert (got.path, got.name, got.bytes) == (path, "клип 50%.mp4", len(CONTENT))
    assert not list(scratch.iterdir())


def test_links_may_lead_within_the_roots_only(fetcher: Fetcher, root: Path, scratch: Path, tmp_path: Path) -> None:
    (root / "a.mp4").write_bytes(b"x")
    (root / "b.mp4").symlink_to(root / "a.mp4")
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (root / "c.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "up").symlink_to(tmp_path)
    assert fetcher.fetch("b.mp4", scratch).path == root / "a.mp4"
    for address in ("c.mp4", "up/secret.mp4", str(root / "up" / "secret.mp4")):
        with pytest.raises(SourceForbidden):
            fetcher.fetch(address, scratch)


@pytest.mark.parametrize(
    "address",
    [
        "/etc/passwd",
        "/etc/no-such-file",
        "../secret.mp4",
        "a/../../secret.mp4",
        "file:///etc/passwd",
        "file:///../etc/x",
    ],
)
def test_paths_outside_the_roots_are_forbidden_whether_they_exist_or_not(
    fetcher: Fetcher, root: Path, scratch: Path, address: str
) -> None:
    with pytest.raises(SourceForbidden) as caught:
        fetcher.fetch(address, scratch)
    assert "LOCAL_ROOTS" in caught.value.message
    assert str(root.parent) not in caught.value.message


def test_what_is_no_file_is_said_to_be_none(fetcher: Fetcher, root: Path, scratch: Path) -> None:
    os.mkfifo(root / "pipe.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    wrong: list[tuple[str, type[JobError]]] = [
        ("none.mp4", SourceNotFound),
        (".", SourceUnsupported),
        ("pipe.mp4", SourceUnsupported),
        ("loop.mp4", InvalidInput),
        ("a\0b", InvalidInput),
        ("x" * 5000, InvalidInput),
        ("file://elsewhere/a.mp4", InvalidInput),
    ]
    for address, error in wrong:
        with pytest.raises(error):
            fetcher.fetch(address, scratch)


def test_the_byte_limit_holds_for_local_files(settings: Settings, root: Path, scratch: Path) -> None:
    (root / "a.mp4").write_bytes(CONTENT)
    with pytest.raises(SourceTooLarge):
        Fetcher(settings.model_copy(update={"max_input_bytes": 1000})).fetch("a.mp4", scratch)


def test_the_first_root_that_has_the_file_is_taken(
    settings: Settings, root: Path, scratch: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "a.mp4").write_bytes(b"x")
    both = settings.model_copy(update={"local_roots": (root, second)})
    assert Fetcher(both).fetch("a.mp4", scratch).path == second / "a.mp4"


def test_base64_arrives_whole_however_it_is_wrapped(fetcher: Fetcher, scratch: Path) -> None:
    letters = base64.encodebytes(CONTENT).decode()
    percent = letters.replace("\n", "").replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    for text in (letters, f"  {letters}\r\n\t", f"data:video/mp4;base64,{letters}"):
        assert fetcher.fetch_base64(text, scratch).path.read_bytes() == CONTENT
    for text in (
        f"data:video/mp4;codecs=avc1;base64,{letters}",
        f"DATA:video/mp4;BASE64,{percent}",
        f"data:;base64,{letters}",
    ):
        assert fetcher.fetch(text, scratch).path.read_bytes() == CONTENT


def test_a_data_url_names_the_file_after_its_type(fetcher: Fetcher, scratch: Path) -> None:
    assert fetcher.fetch("data:image/png;base64,AAAA", scratch).name == "source.png"
    assert fetcher.fetch("data:;base64,AAAA", scratch).name == "source"


@pytest.mark.parametrize(
    "text", ["", "A", "AAA", "AAAA=", "A=AA", "AA-_", "<html>", "data:video/mp4,AAAA", "data:x", "ÄÄÄÄ"]
)
def test_what_is_not_base64_is_invalid(fetcher: Fetcher, scratch: Path, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fetcher.fetch_base64(text, scratch)
    assert caught.value.field == "source_base64"
    assert not list(scratch.iterdir())


@given(st.binary(min_size=1, max_size=200))
def test_the_size_of_base64_is_known_before_it_is_decoded(content: bytes) -> None:
    text = base64.b64encode(content).decode()
    data.open_base64(text, Limits(len(content), ()), "source")
    with pytest.raises(SourceTooLarge):
        data.open_base64(text, Limits(len(content) - 1, ()), "source")


def test_base64_onto_a_full_disk_is_named_and_left_clean(fetcher: Fetcher, scratch: Path) -> None:
    (scratch / "source.mp4.part").symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        fetcher.fetch(f"data:video/mp4;base64,{base64.b64encode(CONTENT).decode()}", scratch)
    assert not list(scratch.iterdir())
