"""Names and keys: nothing that comes in as a name goes out as a path."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.storage.names import KEY_BYTES, NAME_BYTES, name_of, safe_key, safe_name

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)


@given(ANY_TEXT)
@example("../../etc/passwd")
@example("C:\\Windows\\system.ini")
@example("e\u202e\u0301.mp4")
@example("x" * 5000 + ".mp4")
@example("\ud800.mp4")
def test_a_safe_name_is_one_visible_name_in_normal_form(text: str) -> None:
    name = safe_name(text)
    assert name
    assert not name.startswith(".")
    assert not set(name) & set("/\\\0\n\r:")
    assert len(name.encode()) <= NAME_BYTES
    assert unicodedata.is_normalized("NFC", name)
    assert safe_name(name) == name
    assert Path("/folder", name).parent == Path("/folder")


@pytest.mark.parametrize("name", ["clip.mp4", "été 2024.mov", "видео.mkv", "映像.webm", "می‌خواهم.mp4", "a👩‍🚀b.png"])
def test_letters_of_every_script_stay(name: str) -> None:
    assert safe_name(name) == name


def test_a_long_name_keeps_its_suffix() -> None:
    name = safe_name("映" * 200 + ".mp4")
    assert name.endswith("映.mp4")
    assert NAME_BYTES - 3 < len(name.encode()) <= NAME_BYTES


def test_decomposed_letters_are_composed() -> None:
    assert safe_name("e\u0301te\u0301.mp4") == "été.mp4"
    assert safe_key("out/e\u0301.mp4") == "out/é.mp4"


@given(ANY_TEXT)
@example("a/b/c.mp4")
@example("a" * KEY_BYTES)
def test_a_key_is_kept_in_normal_form_or_refused(text: str) -> None:
    try:
        key = safe_key(text)
    except InvalidInput as error:
        assert error.field == "destination.key"
    else:
        assert key == unicodedata.normalize("NFC", text)
        assert all(part not in ("", ".", "..") for part in key.split("/"))
        assert len(key.encode()) <= KEY_BYTES


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../up", "a/../../b", "a//b", "a/./b", "a/", "a\\..\\b", "a\0b", "a\nb", "x" * 1025, "\ud800"],
)
def test_key_tricks_are_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        safe_key(key)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://example.org/a/clip%20one.mp4?sig=1#t", "clip one.mp4"),
        ("https://example.org/%2e%2e%2fpasswd", "_passwd"),
        ("https://example.org/", "source"),
        ("https://example.org/%D0%B2%D0%B8%D0%B4.mp4", "вид.mp4"),
        ("/volume/50%25.mp4", "50%25.mp4"),
    ],
)
def test_a_source_is_named_after_the_end_of_its_address(address: str, name: str) -> None:
    assert name_of(address) == name
