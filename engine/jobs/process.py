"""Frames on their way into the result's file, and the proof that all of them arrived."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import Internal
from engine.frames import Frame, Raster
from engine.jobs.job import Job
from engine.jobs.plan import Outline
from engine.jobs.watch import JobWatch
from engine.media.encode import create
from engine.media.info import Clip, MediaInfo
from engine.media.verify import OutputInfo, verify
from engine.notes import Note
from engine.pipelines.upscaler import Upscaler

O = TypeVar("O")  # noqa: E741 - the options of a family of models
Origin = tuple[Path, MediaInfo, Clip]
"""The file that sound, chapters and tags come from."""


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file on this machine, verified."""

    path: Path
    info: OutputInfo
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """The result and how it came about. facts: for the reply, the plan among them. seconds: of the model's phases."""

    path: Path
    info: OutputInfo
    filename: str
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]
    notes: tuple[Note, ...]


def write(frames: Iterable[Frame], plan: Outline, origin: Origin | None, job: Job) -> Written:
    """Encode the frames as they come, then read the file again. Raises what stops the frames, too."""
    path = job.scratch / f"result.{plan.filename.rpartition('.')[2]}"
    tally = Tally(frames, plan.spec.fps)
    with create(path, plan.spec, origin) as writer:
        for frame in tally:
            job.token.check()
            writer.write(frame)
            job.progress.frames(tally.count, plan.frames)
    tracks = writer.audio_tracks  # what it could not take, it has told in its warnings
    info = verify(path, plan.spec, frames=tally.count, duration=tally.duration, audio_tracks=tracks)
    return Written(path, info, tuple(writer.warnings))


def enlarge(
    frames: Iterable[Frame],
    raster: Raster,
    plan: Outline,
    upscaler: Upscaler[O],
    options: O,
    origin: Origin | None,
    job: Job,
) -> Written:
    """Frames of `raster` through the model into the result's file: one comes out for each that goes in."""
    given = Tally(frames, plan.info.fps)
    made = upscaler(given, raster, plan.target, options, JobWatch(job.token, job.progress, plan.frames))
    file = write(made, plan, origin, job)
    if file.info.frames != given.count:
        raise Internal(f"{given.count} frames went in and {file.info.frames} came out")
    return file


class Tally:
    """Passes frames on and remembers how many there were and how long they last."""

    def __init__(self, frames: Iterable[Frame], fps: Fraction) -> None:
        self._frames = frames
        self._fps = fps
        self._first: Fraction | None = None
        self._end = Fraction(0)
        self.count = 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self._first = frame.time if self._first is None else self._first
            self._end = frame.time + (frame.duration or (1 / self._fps if self._fps else 0))
            self.count += 1
            yield frame

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's begin to the last one's end."""
        return self._end - (self._first or 0)
