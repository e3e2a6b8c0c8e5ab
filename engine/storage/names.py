"""File names and object keys without tricks: the one place that decides what a name may hold.

`safe_name` repairs, because a source's name is nobody's fault; `safe_key` refuses, because a caller who chose a key
expects to find the file under it.
"""

import unicodedata
from urllib.parse import unquote, urlsplit

from engine.errors import InvalidInput, Problem

NAME_BYTES = 200  # of the 255 that file systems allow, so that suffixes such as `.part` still fit
KEY_BYTES = 1024  # the limit of S3 and of Google Cloud Storage

_UNPORTABLE = frozenset('/\\:*?"<>|')
_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")  # turn text around


def safe_name(text: str, default: str = "file") -> str:
    """One file name: NFC, no separators, no control or direction marks, no leading dot, at most 200 bytes of UTF-8.

    Letters of every script stay. Repairing twice changes nothing more. `default` stands in where nothing is left.
    """
    kept = "".join("_" if c in _UNPORTABLE else c for c in text if not _invisible(c))
    name = unicodedata.normalize("NFC", kept).strip(". ")
    return _shortened(name).rstrip(". ") or default


def safe_key(text: str, field: str = "destination.key") -> str:
    """The object key as given, in NFC. Raises InvalidInput where it could be read as another place."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _refused(field, "holds a character that is not text") from None
    parts = text.split("/")
    if not text or any(part in ("", ".", "..") for part in parts):
        raise _refused(field, "must be names joined by single slashes, without a leading slash, `.` or `..`")
    if "\\" in text or any(_invisible(c) for c in text):
        raise _refused(field, "must hold no backslash and no control character")
    key = unicodedata.normalize("NFC", text)
    if max(size, len(key.encode())) > KEY_BYTES:
        raise _refused(field, f"is {size} bytes long; at most {KEY_BYTES} are possible")
    return key


def name_of(address: str, default: str = "source") -> str:
    """The file name that a URL or path ends in, repaired."""
    path = urlsplit(address).path if "://" in address else address
    last = path.rstrip("/").rpartition("/")[2]
    return safe_name(unquote(last) if "://" in address else last, default)


def _invisible(c: str) -> bool:
    return c in _MARKS or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")


def _shortened(name: str) -> str:
    """Cut to NAME_BYTES at a character's border, keeping a suffix of ordinary length."""
    raw = name.encode()
    if len(raw) <= NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    tail = (dot + suffix).encode()
    if not stem or len(tail) > 16:
        stem, tail = name, b""
    return stem.encode()[: NAME_BYTES - len(tail)].decode(errors="ignore") + tail.decode()


def _refused(field: str, text: str) -> InvalidInput:
    return InvalidInput([Problem(field, text)])
