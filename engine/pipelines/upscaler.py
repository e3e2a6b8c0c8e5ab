"""What every family of models that enlarges pictures looks like from a job: frames in, frames out. No torch."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from engine.frames import Frame, Raster
from engine.pipelines.protocol import Pipeline, Watch

O = TypeVar("O", contravariant=True)  # noqa: E741 - the family's options


class Upscaler(Pipeline, Protocol[O]):
    """A pipeline that enlarges."""

    def __call__(
        self, frames: Iterable[Frame], source: Raster, target: Raster, options: O, watch: Watch
    ) -> Iterator[Frame]:
        """A frame of `target` for each frame, in order. Raises OutOfMemory, Internal, and what `watch.check` raises."""
