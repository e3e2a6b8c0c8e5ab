"""Stored tensors -> tensors on a device, one at a time: beside the result there is never more than a few MiB.

Bytes are read, not mapped: pages of a mapped file would count as the process's memory beside the result.
"""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import torch
from torch import Tensor

from engine.weights.quants import dequantize
from engine.weights.stored import Stored, open_plainly

PIECE = 2**22  # bytes, so that a piece is still in the processor's cache when it is converted
PINNED = 2**26


class Reader:
    """Reads onto `device`; keeps the last file open. Raises ValueError where a file ends too early, OSError."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._pinned = _Pinned(device) if device.type == "cuda" else None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._pinned is not None:
            self._pinned.wait()

    def raw(self, stored: Stored) -> Tensor:
        """What lies in the file: `stored.dtype`, `stored.stored_shape`."""
        file = self._open(stored.path)
        if self._pinned is not None:
            return self._pinned.read(stored, file)
        return stored.read_from(file).to(self.device)

    def numbers(self, stored: Stored, dtype: torch.dtype) -> Tensor:
        """The values in another dtype."""
        if stored.block is not None:
            return dequantize(self.raw(stored), stored.block, dtype).view(stored.shape)
        if self.device.type != "cpu" or stored.dtype == dtype:
            return self.raw(stored).to(dtype)
        out = torch.empty(stored.shape.numel(), dtype=dtype)
        piece = torch.empty(min(PIECE, stored.nbytes), dtype=torch.uint8)
        file, size = self._open(stored.path), stored.dtype.itemsize
        for start in range(0, stored.nbytes, PIECE):
            part = out[start // size : (start + PIECE) // size]
            raw = piece[: part.numel() * size]
            stored.read_into(raw, file, start)
            part.copy_(raw.view(stored.dtype))
        return out.view(stored.shape)

    def _open(self, path: Path) -> BinaryIO:
        if self._file is None or path != self._path:
            if self._file is not None:
                self._file.close()
            self._path, self._file = path, open_plainly(path)
        return self._file


class _Pinned:
    """Two buffers that a GPU can fetch from by itself: one is filled from the file while the other is fetched."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.buffers = [torch.empty(PINNED, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
        self.fetched = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
        self.turn = 0

    def read(self, stored: Stored, file: BinaryIO) -> Tensor:
        out = torch.empty(stored.nbytes, dtype=torch.uint8, device=self.device)
        for start in range(0, stored.nbytes, PINNED):
            part = out[start : start + PINNED]
            buffer, fetched = self.buffers[self.turn][: part.numel()], self.fetched[self.turn]
            fetched.synchronize()  # returns at once where nothing was ever recorded
            stored.read_into(buffer, file, start)
            part.copy_(buffer, non_blocking=True)
            fetched.record(torch.cuda.current_stream(self.device))
            self.turn = 1 - self.turn
        return out.view(stored.dtype).view(stored.stored_shape)

    def wait(self) -> None:
        """Before the buffers go, the last fetches must be over."""
        for fetched in self.fetched:
            fetched.synchronize()
