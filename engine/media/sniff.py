"""What a file looks like from its first bytes, whatever it is called."""

import codecs
from dataclasses import dataclass
from typing import Literal

HEAD_BYTES = 4096

_ISO_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ASF = bytes.fromhex("3026b2758e66cf11")


@dataclass(frozen=True, slots=True)
class Look:
    """`family` decides which reader is asked; `name` says to a person what it is."""

    family: Literal["picture", "video", "other", "unknown"]
    name: str


_MAGIC: tuple[tuple[int, bytes, Look], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", Look("picture", "png")),
    (0, b"\xff\xd8\xff", Look("picture", "jpeg")),
    (0, b"GIF8", Look("picture", "gif")),
    (0, b"II*\0", Look("picture", "tiff")),
    (0, b"MM\0*", Look("picture", "tiff")),
    (8, b"WEBP", Look("picture", "webp")),
    (0, b"BM", Look("picture", "bmp")),
    (4, b"ftypavi", Look("other", "an AVIF picture")),
    (8, b"AVI ", Look("video", "avi")),
    (0, b"\x1a\x45\xdf\xa3", Look("video", "mkv")),
    (0, b"FLV", Look("video", "flv")),
    (0, _ASF, Look("video", "wmv")),
    (0, b"\0\0\1\xba", Look("video", "mpeg")),
    (0, b"\0\0\1\xb3", Look("video", "mpeg")),
    (0, b"OggS", Look("video", "ogg")),
    (0, b"YUV4MPEG2", Look("video", "y4m")),
    (0, bytes.fromhex("060e2b34"), Look("video", "mxf")),
    (0, b"DKIF", Look("video", "ivf")),
    (8, b"WAVE", Look("other", "a sound file")),
    (0, b"ID3", Look("other", "a sound file")),
    (0, b"fLaC", Look("other", "a sound file")),
    (0, b"\xff\xfb", Look("other", "a sound file")),
    (0, b"\xff\xf1", Look("other", "a sound file")),
    (0, b"%PDF", Look("other", "a PDF document")),
    (0, b"PK\3\4", Look("other", "a ZIP archive")),
    (0, b"\x1f\x8b", Look("other", "a gzip archive")),
    (0, b"7z\xbc\xaf", Look("other", "a 7z archive")),
    (0, b"Rar!", Look("other", "a RAR archive")),
    (0, b"\x7fELF", Look("other", "a program")),
    (0, b"MZ", Look("other", "a program")),
)

_TEXTS: tuple[tuple[str, str], ...] = (
    ("#extm3u", "a playlist"),
    ("ffconcat", "a playlist"),
    ("[playlist]", "a playlist"),
    ("<!doctype html", "an HTML page"),
    ("<html", "an HTML page"),
    ("<svg", "an SVG drawing"),
    ("{", "JSON"),
)


def look(head: bytes) -> Look:
    """Judge a file by its first HEAD_BYTES."""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return Look("other", "a HEIC picture")
    for offset, magic, answer in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return answer
    if head[4:8] in _ISO_BOXES:
        return Look("video", "mov" if head[8:12] == b"qt  " or head[4:8] != b"ftyp" else "mp4")
    if transport_packet(head):
        return Look("video", "ts")
    text = _text(head)
    return Look("unknown", "a format that is not read here") if text is None else Look("other", _kind_of_text(text))


def transport_packet(head: bytes) -> int | None:
    """The packet length of an MPEG transport stream (plain, with time codes, with error correction), else None."""
    for length, first in ((188, 0), (192, 4), (204, 0)):
        places = range(first, min(len(head), first + 5 * length), length)
        if len(places) > 1 and all(head[place] == 0x47 for place in places):
            return length
    return None


def _text(head: bytes) -> str | None:
    """The beginning as text, or None where it is not text."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head[: len(head) // 2 * 2].decode("utf-16", "replace")
    if any(byte < 9 or (13 < byte < 32 and byte != 27) for byte in head):
        return None
    if sum(byte < 128 for byte in head) < 0.7 * len(head) and not _is_utf8(head):
        return None
    return head.decode("utf-8", "replace").removeprefix("\ufeff")


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return False
    return True


def _kind_of_text(text: str) -> str:
    beginning = text.lstrip()[:4000].lower()
    for start, name in _TEXTS:
        if beginning.startswith(start):
            return name
    if beginning.startswith("<"):
        inner = {"<mpd": "a playlist", "<html": "an HTML page", "<svg": "an SVG drawing", "<smil": "a playlist"}
        return next((name for tag, name in inner.items() if tag in beginning), "an XML document")
    return "text"
