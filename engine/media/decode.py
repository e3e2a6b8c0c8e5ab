"""Reading a source: frames one after another from a thread of its own, never more than a few at a time."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from engine.errors import SourceCorrupt
from engine.frames import Frame, Raster
from engine.media import stills, video
from engine.media.info import Clip, MediaInfo
from engine.media.threads import ahead
from engine.notes import Note

FRAMES_AHEAD = 4


def open_media(path: Path, info: MediaInfo, clip: Clip = Clip(), *, allow_partial: bool = False) -> "Reader":  # noqa: B008 — frozen
    """A reader of the clip. Raises SourceCorrupt at once where the file is known to be cut off within the clip."""
    cut_off = not info.complete and (clip.stop is None or clip.stop > info.duration)
    within = clip.frame_stop is not None and clip.frame_stop <= info.expected_frames(Clip(clip.start))
    if cut_off and not within and not allow_partial:
        text = (
            f"the source breaks off after frame {info.frames - 1} ({float(info.duration):.3f} s): "
            "the file is shorter than it says"
        )
        raise SourceCorrupt(text, hint="send the whole file, or set allow_partial to keep what is there")
    return Reader(path, info, clip, allow_partial)


class Reader:
    """The frames of one source, upright, deinterlaced and in the raster's layout. A context manager.

    `warnings` grows while frames are read; `count` is how many have been given so far, and the truth once all were.
    """

    def __init__(self, path: Path, info: MediaInfo, clip: Clip, allow_partial: bool) -> None:
        self.info = info
        self.clip = clip
        self.warnings: list[Note] = list(info.notes)
        self.count = 0
        self._path = path
        self._allow_partial = allow_partial
        self._stream: Iterator[Frame] | None = None

    @property
    def raster(self) -> Raster:
        return self.info.raster

    @property
    def expected(self) -> int:
        """About how many frames will come; exact at a constant rate."""
        return self.info.expected_frames(self.clip)

    def frames(self) -> Iterator[Frame]:
        """Every frame of the clip in order. Raises SourceCorrupt at the frame where the source breaks."""
        self.close()
        self.count = 0
        self._stream = self._counted()
        return self._stream

    def _counted(self) -> Iterator[Frame]:
        source = stills if self.info.kind == "image" or self.info.animated else video
        made = source.frames_of(self._path, self.info, self.clip, self.warnings)
        try:
            for frame in ahead(made, FRAMES_AHEAD, "decode"):
                self.count += 1
                yield frame
                del frame
        except SourceCorrupt as problem:
            if not self._allow_partial or not self.count:
                raise
            text = f"only {self.count} frames were kept: {problem.message}"
            self.warnings.append(Note("PARTIAL_SOURCE", text))

    def close(self) -> None:
        """Stop decoding at once and let go of the file."""
        if self._stream is not None:
            self._stream.close()  # type: ignore[attr-defined]
            self._stream = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
