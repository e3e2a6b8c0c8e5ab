"""What is known of a source before its frames are read, and which part of it is wanted."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from engine.frames import Raster
from engine.notes import Note


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most that a source may have; `pixels` of one frame."""

    seconds: float
    frames: int
    pixels: int


@dataclass(frozen=True, slots=True)
class Clip:
    """The part of a source that is wanted.

    `start` and `end` are seconds after the first picture: start <= time < end. Then `skip_frames` are left out, and
    `max_frames` of the rest are kept.
    """

    start: float | None = None
    end: float | None = None
    skip_frames: int = 0
    max_frames: int | None = None

    @property
    def first(self) -> Fraction:
        """`start` as the decimal that was meant: 0.4 is two fifths, not the nearest binary number."""
        return _decimal(self.start or 0)

    @property
    def stop(self) -> Fraction | None:
        """`end` likewise."""
        return None if self.end is None else _decimal(self.end)

    @property
    def frame_stop(self) -> int | None:
        """How many frames from `start` on must be read at most."""
        return None if self.max_frames is None else self.skip_frames + self.max_frames


@dataclass(frozen=True, slots=True)
class AudioTrack:
    codec: str
    channels: int
    rate: int
    language: str | None
    duration: float | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """A source as its reader will present it.

    raster: size as shown (after rotation), the layout that the reader yields, the colour tags. rotation: degrees by
    which the reader turns the stored pictures clockwise. sample_aspect_ratio: of the pictures as shown.
    frames: counted from the packets; the reader knows better once it is through. start: time of the first picture.
    interlaced: the reader deinterlaces. complete: False where the file ends before its own header says that it does.
    stream: which stream of the container holds the pictures. notes: what the caller should hear of.
    """

    kind: Literal["video", "image"]
    container: str
    codec: str
    raster: Raster
    rotation: int
    sample_aspect_ratio: Fraction
    fps: Fraction
    frames: int
    duration: Fraction
    start: Fraction
    time_base: Fraction
    variable_rate: bool
    interlaced: bool
    audio: tuple[AudioTrack, ...]
    chapters: int
    bytes: int
    animated: bool
    complete: bool = True
    bottom_first: bool = False
    stream: int = 0
    notes: tuple[Note, ...] = ()

    def expected_frames(self, clip: Clip) -> int:
        """About how many frames the clip holds: exact at a constant rate."""
        first = _ceil(clip.first * self.fps)
        last = self.frames if clip.stop is None else min(self.frames, _ceil(clip.stop * self.fps))
        wanted = max(0, last - min(first, last) - clip.skip_frames)
        return wanted if clip.max_frames is None else min(wanted, clip.max_frames)


def _ceil(value: Fraction) -> int:
    return -int(-value // 1)


def _decimal(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(1_000_000)
