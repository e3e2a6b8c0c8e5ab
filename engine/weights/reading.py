"""Stored tensors -> tensors on a device: beside the result there are never more than a few buffers.

On a CPU what stays as it is stored is mapped: its memory is the system's copy of the file, and none is filled. What
changes its type on the way is read, for mapped pages would be the process's memory beside the result.
"""

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from engine.weights.mapped import MappedFile
from engine.weights.quants import dequantize
from engine.weights.stored import Stored

PIECE = 2**18  # bytes that are converted at once: still in the cache
PINNED = 2**24
THREADS = 4


class Reader:
    """Reads from `paths` onto `device`, in as many `threads` at a time as is of use.

    Raises ValueError where a file ends too early, OSError.
    """

    def __init__(self, device: torch.device, paths: Iterable[Path]) -> None:
        self.device = device
        self._pinned = _Pinned(device) if device.type == "cuda" else None
        # While one waits for the disk, others touch memory for the first time or fill pinned buffers of their own: more
        # threads than cores are of use.
        self.threads = THREADS
        self._files: dict[Path, MappedFile] = {}
        try:
            for path in paths:
                self._files[path] = MappedFile(path)
        except OSError:
            self._close()
            raise

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._pinned is not None:
            self._pinned.wait()

    def raw(self, stored: Stored) -> Tensor:
        """What lies in the file: `stored.dtype`, `stored.stored_shape`."""
        file = self._files[stored.path]
        if self._pinned is not None:
            return self._pinned.read(stored, file.number)
        mapped = file.mapped(stored) if self.device.type == "cpu" else None
        return stored.read_from(file.number).to(self.device) if mapped is None else mapped

    def numbers(self, stored: Stored, dtype: torch.dtype) -> Tensor:
        """The values, times their scale, in a dtype of choice."""
        if stored.scale is not None:
            plain = self.numbers(replace(stored, scale=None), torch.float32)
            return plain.mul_(self.scale(stored.scale, plain.ndim)).to(dtype)
        if stored.block is not None:
            return dequantize(self.raw(stored), stored.block, dtype).view(stored.shape)
        if self.device.type != "cpu" or stored.dtype == dtype:
            return self.raw(stored).to(dtype)
        out = torch.empty(stored.shape.numel(), dtype=dtype)
        piece = torch.empty(min(PIECE, stored.nbytes), dtype=torch.uint8)
        # From one 16-bit dtype to another torch goes value by value; by way of float32, which loses nothing, in vectors
        # and six times as fast.
        narrow = max(stored.dtype.itemsize, dtype.itemsize) < 4
        between = torch.empty(piece.numel() // stored.dtype.itemsize) if narrow else None
        for start in range(0, stored.nbytes, PIECE):
            raw = piece[: stored.nbytes - start]
            stored.read_into(raw, self._files[stored.path].number, start)
            first = start // stored.dtype.itemsize
            values = raw.view(stored.dtype)
            if between is not None:
                values = between[: values.numel()].copy_(values)
            out[first : first + values.numel()].copy_(values)
        return out.view(stored.shape)

    def scale(self, stored: Stored, dimensions: int) -> Tensor:
        """Float32 that scales rows of a tensor of so many dimensions: (1, 1, ...) or (N, 1, ...)."""
        return self.numbers(stored, torch.float32).view(-1, *(1,) * (dimensions - 1))

    def _close(self) -> None:
        for file in self._files.values():
            file.close()


class _Buffers:
    """Two that a GPU can fetch from by itself: one is filled from the file while the other is fetched."""

    def __init__(self) -> None:
        self.buffers = [torch.empty(PINNED, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self.fetched = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
        self.turn = 0

    def fill(self, out: Tensor, stored: Stored, file: int) -> None:
        """out: (N,) bytes on the GPU, which may arrive later than this returns."""
        for start in range(0, stored.nbytes, PINNED):
            part = out[start : start + PINNED]
            buffer, fetched = self.buffers[self.turn][: part.numel()], self.fetched[self.turn]
            fetched.synchronize()  # returns at once where nothing was ever recorded
            stored.read_into(buffer, file, start)
            part.copy_(buffer, non_blocking=True)
            fetched.record(torch.cuda.current_stream(out.device))
            self.turn = 1 - self.turn

    def wait(self) -> None:
        """Before the buffers go, the last fetches must be over."""
        for fetched in self.fetched:
            fetched.synchronize()


class _Pinned:
    """Buffers for each thread: filling them is what takes the time, once the disk is fast or the file in the cache."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._mine = threading.local()
        self._all: list[_Buffers] = []

    def read(self, stored: Stored, file: int) -> Tensor:
        out = torch.empty(stored.nbytes, dtype=torch.uint8, device=self.device)
        if not hasattr(self._mine, "buffers"):
            self._mine.buffers = _Buffers()
            self._all.append(self._mine.buffers)
        self._mine.buffers.fill(out, stored, file)
        return out.view(stored.dtype).view(stored.stored_shape)

    def wait(self) -> None:
        for buffers in self._all:
            buffers.wait()
