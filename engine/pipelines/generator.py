"""What every family of models that makes video looks like from a job: a prompt in, frames out. No torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from engine.frames import Frame, Raster
from engine.pipelines.protocol import Pipeline, Watch

O = TypeVar("O", contravariant=True)  # noqa: E741 - the family's options


@dataclass(frozen=True, slots=True)
class Source:
    """What a video begins from: one frame of an image, or as many frames of a video as are to be made.

    frames: from the first on whenever they are asked for, as where memory ran out the first time.
    """

    frames: Iterable[Frame]
    raster: Raster


class Generator(Pipeline, Protocol[O]):
    """A pipeline that makes frames, from a prompt that stands among its options.

    negative: the prompt that guidance leads away from where the options name none.
    """

    negative: str

    @property
    def here_bytes(self) -> int:
        """What it takes of the device now, which its next call may dispose of."""

    def __call__(self, source: Source | None, target: Raster, options: O, watch: Watch) -> Iterator[Frame]:
        """Exactly as many frames of `target` as the options say; their times are the caller's to set.

        Raises OutOfMemory, Internal, and what `watch.check` raises.
        """
