"""What the road asks of a family of models, and what a model is on this machine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from engine.catalog import Model
from engine.frames import Raster
from engine.jobs.requests import UpscaleRequest
from engine.notes import Note
from engine.pipelines.protocol import Estimate, Pipeline
from engine.pipelines.upscaler import Upscaler
from engine.storage.hooks import Check, Progress, unchecked, unseen

if TYPE_CHECKING:
    import torch

UNPACKED = ("F32", "F16", "BF16")
P = TypeVar("P", bound=Pipeline)
U = TypeVar("U", bound=Upscaler[Any])
O = TypeVar("O")  # noqa: E741
Use = Callable[[], AbstractContextManager[P]]


@dataclass(frozen=True, slots=True)
class Setup:
    """A model on this machine: those of its files that are here, by name; the device and the arithmetic it runs in.

    denoise_strength: of a model that is mixed from two checkpoints, else None. fp8_matmul: whether fp8 weights may be
    multiplied in fp8. free_bytes: of the device, when it is loaded. check, progress: what may stop the loading, and who
    is told how far it is.
    """

    model: Model
    paths: Mapping[str, Path]
    device: "torch.device"
    dtype: "torch.dtype"
    denoise_strength: float | None = None
    fp8_matmul: bool = False
    free_bytes: int = 0
    check: Check = unchecked
    progress: Progress = unseen

    def file(self, role: str) -> Path | None:
        """The file of that role, None where the model has none or it is not here."""
        return next(iter(self.files.get(role, ())), None)

    @property
    def files(self) -> Mapping[str, Sequence[Path]]:
        """The files that are here, by role, in the catalog's order."""
        found: dict[str, list[Path]] = {}
        for file in self.model.files:
            if file.name in self.paths:
                found.setdefault(file.role, []).append(self.paths[file.name])
        return found

    def counted(self) -> Callable[[int], None]:
        """What a load calls with the bytes of each tensor that is in; counts from 0, up to the size of the files."""
        done, total = 0, sum(path.stat().st_size for path in self.paths.values())

        def arrived(nbytes: int) -> None:
            nonlocal done
            self.check()
            done += nbytes
            self.progress(done, total)

        return arrived

    @property
    def all_paths(self) -> list[Path]:
        """All files being here, in the catalog's order."""
        return [self.paths[file.name] for file in self.model.files]

    def file_bytes(self, role: str) -> int | None:
        """Of all files of that role: on the disk, else by the catalog; None where that does not tell."""
        here = self.files.get(role, ())
        if len(here) == sum(file.role == role for file in self.model.files):
            return sum(path.stat().st_size for path in here)
        return self.model.bytes_of(role)

    @property
    def transformer_bytes(self) -> int:
        """The transformer in memory: what is stored in 8 bits or fewer stays so, what is wider becomes `dtype`."""
        if self.model.precision in UNPACKED:
            return self.model.parameters * self.dtype.itemsize
        return self.file_bytes(self.model.files[0].role) or self.model.parameters


class Family(ABC, Generic[P]):
    """`P` is the family's pipeline."""

    @abstractmethod
    def dtype(self, model: Model, device: "torch.device") -> "torch.dtype":
        """What DTYPE=auto means."""

    def weight_bytes(self, setup: Setup) -> int:
        """What the model takes in memory, as far as its files tell."""
        return sum(setup.file_bytes(role) or 0 for role in {file.role for file in setup.model.files})

    def held_bytes(self, setup: Setup, pipeline: P) -> int:
        """What the loaded pipeline takes of the device now."""
        return self.weight_bytes(setup)

    @abstractmethod
    def check(self, setup: Setup) -> None:
        """Demand of the files, all being here, what `load` does, reading no weights. Raises what `load` raises."""

    @abstractmethod
    def load(self, setup: Setup) -> P:
        """The pipeline, all files being here. Raises CheckpointMismatch, OSError, and what `setup.check` raises."""


class UpscalerFamily(Family[U], Generic[U, O]):
    """`O` is what its pipelines are asked with."""

    def settle(self, request: UpscaleRequest) -> tuple[UpscaleRequest, tuple[Note, ...]]:
        """The request with the values that will be in effect, and what was changed. Raises InvalidInput."""
        return request, ()

    @abstractmethod
    def options(self, request: UpscaleRequest, frames: int, free_bytes: int) -> O:
        """What a settled request asks for. `free_bytes`: of the device, the weights being in."""

    @abstractmethod
    def estimate(self, setup: Setup, source: Raster, target: Raster, options: O, use: Use[U]) -> Estimate:
        """What a call would take. `use` gives the pipeline, loaded if need be, where that is the way to know."""


def number(value: int | str) -> int | None:
    """None for `auto`."""
    return value if isinstance(value, int) else None
