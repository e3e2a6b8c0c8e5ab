"""Write a file: frames go into a short queue, a thread encodes them, and the file gets its name when it is whole."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import av

from engine.errors import Internal, InvalidInput
from engine.frames import Frame
from engine.media.animation_output import GifFile, WebpFile
from engine.media.info import Clip, MediaInfo
from engine.media.outputs import OutputSpec, choose_pixel, default_codec, holds_audio, problems, size_problems
from engine.media.sinks import Sink, Source, disk_full_told
from engine.media.still_output import PngSequence, StillFile
from engine.media.threads import Closed, Handoff
from engine.media.video_output import VideoFile
from engine.notes import Note

__all__ = ["OutputSpec", "Writer", "choose_pixel", "create"]

log = logging.getLogger(__name__)

QUEUE_DEPTH = 4

_SINKS: Mapping[str, Callable[[Path, OutputSpec, Source | None], Sink]] = {
    "gif": GifFile,
    "webp": WebpFile,
    "png": StillFile,
    "jpg": StillFile,
    "png_sequence": PngSequence,
}


class Writer:
    """A file being written; a context manager.

    Leaving it without an error finishes the file. Leaving it with one stops the thread and removes what was written.
    """

    def __init__(self, path: Path, part: Path, sink: Sink) -> None:
        self.path = path
        self.frames = 0
        self._part = part
        self._sink = sink
        self._handoff: Handoff[Frame] = Handoff(QUEUE_DEPTH)
        self._error: BaseException | None = None
        self._wanted = True
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)

    @property
    def audio_tracks(self) -> int:
        """How many the file has."""
        return self._sink.audio_tracks

    @property
    def warnings(self) -> list[Note]:
        return self._sink.notes

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def write(self, frame: Frame) -> None:
        """Hand one frame over; waits while the queue is full. Raises whatever stopped the encoder."""
        try:
            self._handoff.put(frame)
        except Closed:
            assert self._error is not None
            raise self._error from None
        self.frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._wanted = False
            self._handoff.abandon()
        self._handoff.finish()
        self._thread.join()
        if error is None and self._error is None:
            self._part.rename(self.path)
            return
        self._discard()
        if error is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        """The thread: encode what comes, then finish the file."""
        try:
            with disk_full_told():
                self._encode_all()
                if self._wanted:
                    self._sink.finish()
        except av.error.FFmpegError as error:
            self._fail(Internal(f"the encoder stopped: {error.strerror}"), error)
        except BaseException as error:  # noqa: BLE001 — it belongs to whoever writes
            self._fail(error, error.__cause__)

    def _encode_all(self) -> None:
        while True:
            try:
                frame = self._handoff.take()
            except Closed:
                return
            self._sink.write(frame)
            del frame  # or the thread would keep one more picture alive while it waits

    def _fail(self, error: BaseException, cause: BaseException | None) -> None:
        error.__cause__ = cause
        self._error = error
        self._handoff.abandon()

    def _discard(self) -> None:
        """Remove the file before letting go of it: a muxer would otherwise spend time on completing it."""
        self._part.unlink(missing_ok=True)
        try:
            self._sink.abort()
        except (OSError, ValueError) as error:
            log.info("closing an unwanted output: %s", type(error).__name__)
        self._part.unlink(missing_ok=True)


def create(path: Path, spec: OutputSpec, source: tuple[Path, MediaInfo, Clip] | None) -> Writer:
    """Open a file for writing; audio, subtitles, chapters and metadata come from the source, if there is one.

    Raises InvalidInput for what cannot be written, DiskFull, and Internal where an encoder cannot be opened.
    """
    _check(spec)
    part = path.with_name(f"{path.name}.part")
    origin = Source(*source) if source is not None else None
    try:
        with disk_full_told():
            sink = _SINKS.get(spec.container, VideoFile)(part, spec, origin)
    except av.error.FFmpegError as error:
        part.unlink(missing_ok=True)
        raise Internal(f"the encoder could not be opened: {error.strerror}") from error
    if spec.keep_audio and origin is not None and origin.info.audio and not holds_audio(spec.container):
        sink.notes.append(Note("AUDIO_DROPPED", f"{spec.container} holds no audio; mp4, mov, mkv and webm do"))
    return Writer(path, part, sink)


def _check(spec: OutputSpec) -> None:
    """Refuse what no encoder here can do, before anything is opened."""
    pixel = spec.pixel
    wrong = problems(
        spec.container, spec.codec, bit_depth=pixel.bits, alpha=pixel.alpha, crf=spec.crf, preset=spec.preset
    )
    if not wrong:
        wrong = size_problems(spec.container, spec.codec, spec.width, spec.height)
    if wrong:
        raise InvalidInput(wrong)
    if pixel != choose_pixel(spec.container, spec.codec, pixel.bits, pixel.alpha):
        codec = spec.codec or default_codec(spec.container, alpha=pixel.alpha)
        raise Internal(f"{codec} does not take frames laid out as {pixel}; choose_pixel says how it does")
