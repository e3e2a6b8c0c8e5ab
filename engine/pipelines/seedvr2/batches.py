"""A stream of frames as the batches that SeedVR2 restores one by one: scenes, overlaps, frames put in front. No torch.

Where a batch begins depends on the frames alone, never on how they were read: at the first frame of a scene and then
every `size - overlap` frames (upstream, the most used implementation's batching).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Frames restored together. The first `shared` of them were the end of the batch before; `last` ends a scene."""

    frames: list[T]
    shared: int
    last: bool


class Batches(Generic[T]):
    """Looks one frame ahead and no farther, so that a stream of any length takes the memory of one batch.

    `take` shows the next batch and `done` moves on. A batch that was too large is simply taken again, smaller.
    """

    def __init__(self, frames: Iterable[T], is_cut: Callable[[T], bool], prepend: int = 0) -> None:
        self._scenes = _prepended(((frame, is_cut(frame)) for frame in frames), prepend)
        self._held: list[T] = []
        self._shared = 0
        self._following: T | None = None  # the first frame of the scene after this one
        self._ended = True  # whether the scene has no frames beyond those held

    def take(self, size: int, overlap: int) -> Batch[T] | None:
        """The next at most `size` frames, None at the end. No more than `overlap` of them are shared."""
        if not self._held and not self._next_scene():
            return None
        self._share(min(overlap, size - 1))
        self._fill(size + 1)
        return Batch(self._held[:size], self._shared, last=self._ended and len(self._held) <= size)

    def done(self, batch: Batch[T], overlap: int) -> None:
        """`batch`, the one taken last, is restored; the next shares `overlap` frames with it."""
        if batch.last:
            self._held, self._shared = [], 0
        else:
            self._held = self._held[len(batch.frames) - overlap :]
            self._shared = overlap

    def _next_scene(self) -> bool:
        if self._following is None:
            first = next(self._scenes, None)
            if first is None:
                return False
            self._following = first[0]
        self._held, self._following, self._ended = [self._following], None, False
        return True

    def _share(self, most: int) -> None:
        if self._shared > most:
            self._held, self._shared = self._held[self._shared - most :], most

    def _fill(self, count: int) -> None:
        while not self._ended and len(self._held) < count:
            frame, starts = next(self._scenes, (None, True))
            if starts:
                self._following, self._ended = frame, True
            elif frame is not None:
                self._held.append(frame)


def mirrored_front(frames: list[T], count: int) -> list[T]:
    """`count` frames to put before `frames`: the mirror image; where that is too short, its last repeated first."""
    mirror = frames[count:0:-1]
    return [frames[-1]] * (count - len(mirror)) + mirror


def _prepended(frames: Iterator[tuple[T, bool]], count: int) -> Iterator[tuple[T, bool]]:
    """The stream with `count` frames of its first scene mirrored in front; a frame is True where a scene starts."""
    head = list(islice(frames, count + 1)) if count else []
    if head:
        scene = [head[0][0]]
        for frame, starts in head[1:]:
            if starts:
                break
            scene.append(frame)
        front = [(frame, False) for frame in mirrored_front(scene, count)]
        yield front[0][0], True
        yield from front[1:]
        yield head[0][0], False
        yield from head[1:]
    yield from frames
