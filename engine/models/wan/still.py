"""A clip that stands still after a while, each of its steady states worked out once.

Layers see but a few frames back. When a layer has been given the very same tensors for so long that all it sees are
these, its answer is the one before, bit for bit; and as that is the very same tensor, too, the next layer can tell.
"""

from dataclasses import dataclass, field
from typing import cast
from weakref import ReferenceType, ref

from torch import Tensor, nn

from engine.models.causal import Clip, Layer


@dataclass(slots=True)
class Given:
    """The frames of a layer's last calls, the same so many `times` in a row. They need not live on for this."""

    frames: list[ReferenceType[Tensor]]
    times: int = 0
    answers: list[Tensor] | None = None

    def again(self, frames: list[Tensor]) -> bool:
        return len(self.frames) == len(frames) and all(
            before() is now for before, now in zip(self.frames, frames, strict=True)
        )


@dataclass(slots=True)
class StillClip(Clip):
    """Only for a clip in which a tensor never changes once it is a layer's input."""

    given: dict[Layer, Given] = field(default_factory=dict)

    def through(self, layer: Layer, frames: list[Tensor], last: bool) -> list[Tensor]:
        given = self.given.get(layer)
        if given is None:  # the clip's first frame, which comes alone and never again
            self.given[layer] = Given([])
            return layer(frames, self, last)
        if not given.again(frames):
            given = self.given[layer] = Given([ref(x) for x in frames])
        given.times += 1
        if given.answers is None:
            steady = given.times > self.reach(layer)
            answers = layer(frames, self, last)
            if not steady:
                return answers
            given.answers = answers
        return [*given.answers]

    def reach(self, layer: Layer) -> int:
        """How many calls back the layer sees: one for everything in it that keeps what it was given last."""
        return sum(module in self.past for module in cast(nn.Module, layer).modules())
