"""An open file of weights, mapped, so that what stays as it is stored is never copied."""

import ctypes
import mmap
import os
import threading
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from engine.weights.stored import Stored

_POPULATE_READ = 22  # MADV_POPULATE_READ, of Linux 5.14 on: reads all pages now, and says so where one cannot be read
_libc = ctypes.CDLL(None, use_errno=True)  # not mmap.madvise, which lets no other thread run meanwhile


class MappedFile:
    """`number` is the open file's. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)
        os.posix_fadvise(self.number, 0, 0, os.POSIX_FADV_SEQUENTIAL)  # the system reads further ahead then
        self._turn = threading.Lock()  # where two places are populated at once, it reads ahead at neither

    def close(self) -> None:
        """Tensors that were mapped stay: each holds the mapping."""
        os.close(self.number)

    def mapped(self, stored: Stored) -> Tensor | None:
        """As Reader.raw, being the file's own pages, all of them read; whoever writes to it gets copies of those.

        None where a value crosses its alignment, or the system cannot map the file or read it so.
        """
        if stored.offset % stored.dtype.itemsize or not stored.nbytes:
            return None
        try:
            flat = torch.frombuffer(self._memory, dtype=torch.uint8, count=stored.nbytes, offset=stored.offset)
            with self._turn:
                _populate(flat)
        except (OSError, ValueError):  # reading will tell what is wrong, if anything is
            return None
        return flat.view(stored.dtype).view(stored.stored_shape)

    @cached_property
    def _memory(self) -> mmap.mmap:
        return mmap.mmap(self.number, 0, access=mmap.ACCESS_COPY)


def _populate(flat: Tensor) -> None:
    begin = flat.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = flat.data_ptr() + flat.nbytes - begin
    if _libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), _POPULATE_READ):
        raise OSError(ctypes.get_errno(), "the pages of a mapped file could not be read")
