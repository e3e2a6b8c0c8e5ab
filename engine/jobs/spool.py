"""Frames laid aside on the disk as they are, between one model and the next: memory holds one of them at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from engine.frames import Frame, Plane, Raster


class Spool:
    """A file of raw planes, frame after frame. Times are kept in memory; a plane's shape follows from the raster."""

    def __init__(self, path: Path, raster: Raster) -> None:
        self.raster = raster
        self._path = path
        self._shapes = raster.pixel.plane_shapes(raster.width, raster.height)
        self._index: list[Frame] = []  # without planes

    @staticmethod
    def bytes_for(raster: Raster, frames: int) -> int:
        """What so many frames take on the disk."""
        shapes = raster.pixel.plane_shapes(raster.width, raster.height)
        return frames * sum(prod(shape) for shape in shapes) * np.dtype(raster.pixel.dtype).itemsize

    def fill(self, frames: Iterable[Frame]) -> None:
        """Write the frames as they come."""
        with self._path.open("wb") as file:
            for frame in frames:
                for plane in frame.planes:
                    file.write(np.ascontiguousarray(plane).data)
                self._index.append(Frame((), frame.time, frame.duration))

    def __iter__(self) -> Iterator[Frame]:
        """All frames, as often as wanted."""
        with self._path.open("rb") as file:
            for frame in self._index:
                yield replace(frame, planes=tuple(self._plane(file, shape) for shape in self._shapes))

    def _plane(self, file: BinaryIO, shape: tuple[int, ...]) -> Plane:
        flat: Any = np.fromfile(file, self.raster.pixel.dtype, prod(shape))
        plane: Plane = flat.reshape(shape)
        return plane
