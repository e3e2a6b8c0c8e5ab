"""Does a file end where it says that it ends? Read from the lengths that containers write down, without decoding."""

import struct
from pathlib import Path
from typing import BinaryIO

from engine.media.sniff import Look, transport_packet

_UNKNOWN_SIZE = {(1 << (7 * length)) - 1 for length in range(1, 9)}
_SEGMENT = 0x18538067


def is_whole(path: Path, size: int, head: bytes, look: Look) -> bool:
    """False where the file is certainly shorter than it should be; True where nothing says so."""
    with path.open("rb") as file:
        match look.name:
            case "mp4" | "mov":
                return _boxes_fit(file, size)
            case "mkv":
                return _segment_fits(file, size)
            case "avi" | "webp":
                return int.from_bytes(head[4:8], "little") + 8 <= size
            case "ts":
                return size % (transport_packet(head) or 188) == 0
            case "gif":
                return _tail(file, size, 64).rstrip(b"\0").endswith(b";")
            case "png":
                return b"IEND" in _tail(file, size, 65_536)
            case _:
                return True


def has_index(path: Path, size: int) -> bool:
    """Whether an MP4 or MOV holds the box without which its samples cannot be found."""
    with path.open("rb") as file:
        return any(kind == b"moov" for kind, _ in _boxes(file, size))


def _tail(file: BinaryIO, size: int, length: int) -> bytes:
    file.seek(max(0, size - length))
    return file.read(length)


def _boxes(file: BinaryIO, size: int) -> list[tuple[bytes, int]]:
    """Kind and end of the top-level boxes, as far as they make sense."""
    boxes, place = [], 0
    while place + 8 <= size:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            extended = file.read(8)
            length = struct.unpack(">Q", extended)[0] if len(extended) == 8 else 0
        elif length == 0:
            length = size - place
        if length < 8 or not kind.replace(b"\xa9", b"c").isalnum():
            break
        place += length
        boxes.append((kind, place))
    return boxes


def _boxes_fit(file: BinaryIO, size: int) -> bool:
    media = (b"mdat", b"moov", b"moof")
    return all(end <= size for kind, end in _boxes(file, size) if kind in media)


def _segment_fits(file: BinaryIO, size: int) -> bool:
    """Matroska: the EBML header, then one segment with everything in it."""
    place = 0
    while place < min(size, 1 << 20):
        file.seek(place)
        identity, length_of_id = _number(file, keep_marker=True)
        length, length_of_size = _number(file, keep_marker=False)
        start = place + length_of_id + length_of_size
        if identity == _SEGMENT:
            return length in _UNKNOWN_SIZE or start + length <= size
        if not length_of_id or not length_of_size:
            return True
        place = start + length
    return True


def _number(file: BinaryIO, *, keep_marker: bool) -> tuple[int, int]:
    """An EBML number and how many bytes it took; (0, 0) where there is none."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, 0
    length = 9 - first[0].bit_length()
    value = first[0] if keep_marker else first[0] & ((1 << (8 - length)) - 1)
    rest = file.read(length - 1)
    return (value << (8 * len(rest))) | int.from_bytes(rest, "big"), length
