"""Turning pictures the way they are meant to be seen: whole planes at a time, without touching a sample's value."""

import struct
from dataclasses import dataclass, replace
from typing import Any

import av
from av.sidedata.sidedata import Type as SideDataType

from engine.frames import PixelFormat, Plane


@dataclass(frozen=True, slots=True)
class Orientation:
    """First rows and columns change places, then rows are reversed (top to bottom), then columns (left to right)."""

    swap: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def clockwise(self) -> int:
        """Degrees; of a mirrored picture, those of the turn that goes with the mirror."""
        if self.swap:
            return 90 if self.flip_columns else 270 if self.flip_rows else 90
        return 180 if self.flip_rows and self.flip_columns else 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown."""
        return (height, width) if self.swap else (width, height)

    def turn(self, plane: Plane) -> Plane:
        """The plane as shown: itself where nothing is to be done, else a copy (torch takes no negative strides)."""
        if self.swap:
            plane = plane.swapaxes(0, 1)
        if self.flip_rows:
            plane = plane[::-1]
        if self.flip_columns:
            plane = plane[:, ::-1]
        return plane if self == UPRIGHT else plane.copy()

    def layout(self, pixel: PixelFormat, width: int, height: int) -> PixelFormat:
        """The layout that pictures of a (stored) size need before they can be turned plane by plane.

        4:2:2 on its side would be halved in the wrong direction; and where an odd edge comes first, chroma would
        slip by half a sample. Both take full chroma.
        """
        uneven = self.swap and pixel.sub_w != pixel.sub_h
        rows, columns = (self.flip_columns, self.flip_rows) if self.swap else (self.flip_rows, self.flip_columns)
        slips = (columns and width % pixel.sub_w) or (rows and height % pixel.sub_h)
        return replace(pixel, sub_w=1, sub_h=1) if uneven or slips else pixel


UPRIGHT = Orientation()

EXIF_ORIENTATIONS = {
    1: UPRIGHT,
    2: Orientation(flip_columns=True),
    3: Orientation(flip_rows=True, flip_columns=True),
    4: Orientation(flip_rows=True),
    5: Orientation(swap=True),
    6: Orientation(swap=True, flip_columns=True),
    7: Orientation(swap=True, flip_rows=True, flip_columns=True),
    8: Orientation(swap=True, flip_rows=True),
}


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """Read the display matrix, in which shown x = a p + c q and shown y = b p + d q for a stored sample (p, q).

    Turns between the right angles are not ours to make: they count as upright.
    """
    # The stub calls side_data a dictionary; iterating it gives the data themselves.
    data: list[Any] = [data for data in frame.side_data if getattr(data, "type", None) == SideDataType.DISPLAYMATRIX]
    if not data:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", bytes(data[0])[:20])
    if abs(b) > abs(a) and abs(c) > abs(d):
        return Orientation(True, flip_rows=b < 0, flip_columns=c < 0)
    return Orientation(False, flip_rows=d < 0, flip_columns=a < 0)
