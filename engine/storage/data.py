"""Sources inside the request itself: `data:` URLs and base64. Sizes are known before anything is decoded."""

import base64
import mimetypes
import re
from urllib.parse import unquote

from engine.errors import InvalidInput, Problem
from engine.storage.hooks import PIECE
from engine.storage.part import Part
from engine.storage.sources import Limits

_DATA_URL = re.compile(r"data:([^,]*?)(;base64)?,(.*)", re.IGNORECASE | re.DOTALL)
_ALPHABET = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_STEP = PIECE // 3 * 4  # a multiple of four letters: each step decodes on its own


def open_base64(text: str, limits: Limits, field: str) -> tuple[str, str]:
    """Name and letters of a source given as base64 or `data:` URL, checked. Raises InvalidInput, SourceTooLarge."""
    kind, letters = "", text
    if text[:5].lower() == "data:":
        kind, letters = _opened(text, field)
    letters = "".join(letters.split())
    limits.demand_fit(len(letters) // 4 * 3 - letters[-2:].count("="))
    if not letters or len(letters) % 4 or not _ALPHABET.fullmatch(letters):
        raise InvalidInput([Problem(field, "is not base64 (letters, digits, +, /, padded with = to fours)")])
    return f"source{mimetypes.guess_extension(kind) or ''}", letters


def decode(letters: str, part: Part) -> None:
    """Write the bytes that checked base64 letters stand for."""
    part.expect(len(letters) // 4 * 3 - letters[-2:].count("="))
    for start in range(0, len(letters), _STEP):
        part.write(base64.b64decode(letters[start : start + _STEP]))


def _opened(text: str, field: str) -> tuple[str, str]:
    match = _DATA_URL.fullmatch(text)
    if not match or not match[2]:
        raise InvalidInput([Problem(field, "is not a data URL of the form data:video/mp4;base64,...")])
    return match[1].partition(";")[0].strip().lower(), unquote(match[3])
