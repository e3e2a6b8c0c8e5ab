"""Which models are loaded, where, and how much memory there is: load once, keep, drop when idle or asked to.

A pipeline is anything that can be called with frames; how it is loaded is its caller's knowledge. Torch is imported
when the first question about the device is asked.
"""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from engine.settings import Settings

if TYPE_CHECKING:
    import torch

MIB = 2**20
K = TypeVar("K", bound=Hashable)
P = TypeVar("P")
log = logging.getLogger(__name__)


class Residency(Generic[K, P]):
    """The loaded pipelines by key. One job uses one at a time; the idle timer never takes it away meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pipelines: dict[K, P] = {}
        self._held: dict[K, Callable[[], int]] = {}
        self._lock = threading.RLock()
        self._users = 0
        self._timer: threading.Timer | None = None

    @property
    def device(self) -> "torch.device":
        """The device that DEVICE asks for; `auto` takes the GPU where there is one."""
        import torch

        wanted = self._settings.device
        return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")

    @contextmanager
    def use(self, key: K, load: Callable[[], P], held_bytes: Callable[[P], int] = lambda _: 0) -> Iterator[P]:
        """The pipeline under `key`, loaded if it is not; it stays at least as long as the context.

        held_bytes: what it takes of the device, which a processor, unlike a GPU, does not count for us.
        """
        with self._lock:
            self._stop_timer()
            self._users += 1
        try:
            yield self._loaded(key, load, held_bytes)
        finally:
            with self._lock:
                self._users -= 1
                self._start_timer()

    def _loaded(self, key: K, load: Callable[[], P], held_bytes: Callable[[P], int]) -> P:
        with self._lock:
            if key in self._pipelines:
                self._pipelines[key] = self._pipelines.pop(key)  # now the one used last
            else:
                log.info("loading %s on %s", key, self.device)
                self._pipelines[key] = load()
                self._held[key] = partial(held_bytes, self._pipelines[key])
            return self._pipelines[key]

    def holds(self, key: K) -> bool:
        return key in self._pipelines

    def get(self, key: K) -> P | None:
        """The pipeline under `key`, if it is loaded."""
        return self._pipelines.get(key)

    @property
    def loaded(self) -> list[K]:
        """Keys of what is loaded, the one that was used longest ago first."""
        return list(self._pipelines)

    def offload(self, wanted: Callable[[K], bool] = lambda key: True) -> tuple[list[K], int]:
        """Drop the pipelines whose key is `wanted`; their keys and the bytes the device has back."""
        with self._lock:
            before = self.free_bytes()
            gone = [key for key in self._pipelines if wanted(key)]
            for key in gone:
                del self._pipelines[key], self._held[key]
            self._collect()
            return gone, max(self.free_bytes() - before, 0)

    def _collect(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    @property
    def budget_bytes(self) -> int | None:
        """What the operator allows of the device's memory, None for all that is free."""
        settings = self._settings
        budget = settings.vram_budget_mb if self.device.type == "cuda" else settings.ram_budget_mb
        return None if budget is None else budget * MIB

    def free_bytes(self) -> int:
        """Memory a plan may use: what is free on the device, below what the operator's budget leaves beside weights."""
        if self.device.type == "cuda":
            import torch

            held = torch.cuda.memory_allocated()
            free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - held
        else:
            held = sum(count() for count in self._held.values())
            free = free_host_bytes()
        budget = self.budget_bytes
        return free if budget is None else max(min(free, budget - held), 0)

    def report(self) -> dict[str, Any]:
        """Device facts for `info` and for a reply's metrics; sizes in MB (2**20 bytes)."""
        if self.device.type != "cuda":
            return {"name": None, "device": "cpu", "ram_free_mb": free_host_bytes() // MIB}
        import torch

        free, total = torch.cuda.mem_get_info()
        return {
            "name": torch.cuda.get_device_name(),
            "device": "cuda",
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "vram_used_mb": (total - free) // MIB,
            "vram_total_mb": total // MIB,
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }

    def peak_vram_mb(self) -> int:
        """The most that was allocated on the GPU since the last call; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0
        import torch

        peak = torch.cuda.max_memory_allocated() // MIB
        torch.cuda.reset_peak_memory_stats()
        return peak

    def _start_timer(self) -> None:
        if self._users or not self._settings.gpu_idle_timeout or self.device.type != "cuda":
            return
        self._timer = threading.Timer(self._settings.gpu_idle_timeout, self._idle)
        self._timer.daemon = True
        self._timer.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _idle(self) -> None:
        with self._lock:
            if not self._users:
                gone, freed = self.offload()
                names = ", ".join(map(str, gone))
                log.info("idle for %g s: dropped %s, %d MB", self._settings.gpu_idle_timeout, names, freed // MIB)


def free_host_bytes() -> int:
    """Memory the host can still give: what the kernel calls available, below the container's own limit."""
    available = _table(Path("/proc/meminfo"))["MemAvailable:"] * 1024
    return min([available, *_group_room()])


def process_seconds() -> float:
    """How long ago this process was started, by the kernel's clock."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # since the machine's start; the 22nd field, the third is first
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - began, 0.0)


def peak_host_bytes() -> int:
    """The most memory this process has held, by the kernel's own mark; getrusage counts what its parent held, too."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(row[1]) * 1024 for row in rows if row and row[0] == "VmHWM:")


def _group_room() -> Iterator[int]:
    """What is left below the limits of control groups, of either version."""
    group = Path("/sys/fs/cgroup")
    for folder, most, now, cache in (
        (group, "memory.max", "memory.current", "inactive_file"),
        (group / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(folder / most), _number(folder / now)
        if limit is not None and used is not None:
            # The kernel gives that part of its cache back when it is needed.
            yield limit - used + _table(folder / "memory.stat").get(cache, 0)


def _table(path: Path) -> dict[str, int]:
    """Lines of `name number` as a kernel file holds them."""
    return {row[0]: int(row[1]) for line in path.read_text().splitlines() if len(row := line.split()) > 1}


def _number(path: Path) -> int | None:
    """The number a kernel file holds; None where there is no such file or it says `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _driver() -> str | None:
    """The NVIDIA driver's version, or None where the kernel does not tell."""
    try:
        return Path("/sys/module/nvidia/version").read_text().strip()
    except OSError:
        return None
