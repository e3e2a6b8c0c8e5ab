"""Which models are loaded: once, kept, dropped when idle or asked to; and how much memory a plan may use."""

import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import residency
from engine.residency import MIB, Residency, free_host_bytes, process_seconds
from engine.settings import Settings

TICK = 0.01  # s, in which the kernel tells when a process began


def made(**settings: Any) -> Residency[str, str]:
    return Residency(Settings(**{"device": "cpu", **settings}))


def test_a_pipeline_is_loaded_once() -> None:
    loads: list[str] = []

    def load() -> str:
        loads.append("x")
        return "pipeline"

    kept = made()
    for _ in range(2):
        with kept.use("a", load) as pipeline:
            assert pipeline == "pipeline"
    assert (loads, kept.loaded, kept.holds("a"), kept.holds("b")) == (["x"], ["a"], True, False)


def test_a_load_that_fails_leaves_nothing_and_may_be_tried_again() -> None:
    kept = made()

    def fail() -> str:
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file"), kept.use("a", fail):
        pass
    assert kept.loaded == []
    with kept.use("a", lambda: "pipeline") as pipeline:
        assert pipeline == "pipeline"


def test_offload_drops_what_is_wanted_and_says_what_went() -> None:
    kept = made()
    for key in ("a", "b"):
        with kept.use(key, lambda: "pipeline"):
            pass
    gone, freed = kept.offload(lambda key: key == "a")
    assert (gone, kept.loaded) == (["a"], ["b"]) and freed >= 0
    assert kept.offload()[0] == ["b"] and kept.offload()[0] == []


def test_what_was_used_last_stands_last() -> None:
    kept = made()
    for key in ("a", "b", "a"):
        with kept.use(key, lambda: "pipeline"):
            pass
    assert kept.loaded == ["b", "a"]


class Pipeline:
    """Something that can be watched going away."""


def test_an_offloaded_pipeline_is_gone() -> None:
    kept: Residency[str, Pipeline] = Residency(Settings(device="cpu"))
    with kept.use("a", Pipeline) as pipeline:
        watched = weakref.ref(pipeline)
    del pipeline
    assert watched() is not None
    kept.offload()
    assert watched() is None


class Timers:
    """Stands for `threading.Timer`: goes off when the test says so."""

    def __init__(self) -> None:
        self.running: list[Timers.One] = []

    def __call__(self, seconds: float, act: Callable[[], None]) -> "Timers.One":
        return self.One(self, seconds, act)

    class One:
        daemon = False

        def __init__(self, clock: "Timers", seconds: float, act: Callable[[], None]) -> None:
            self.clock, self.seconds, self.act = clock, seconds, act

        def start(self) -> None:
            assert self.daemon
            self.clock.running.append(self)

        def cancel(self) -> None:
            if self in self.clock.running:
                self.clock.running.remove(self)


class OnGpu(Residency[str, str]):
    """A residency that believes in a GPU and owns none."""

    device = torch.device("cuda")  # type: ignore[assignment]

    def free_bytes(self) -> int:
        return 0

    def _collect(self) -> None:
        pass


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    found = Timers()
    monkeypatch.setattr(threading, "Timer", found)
    return found


def test_an_idle_model_leaves_the_gpu(timers: Timers) -> None:
    kept = OnGpu(Settings(gpu_idle_timeout=600))
    with kept.use("a", lambda: "pipeline"):
        assert timers.running == []
    (timer,) = timers.running
    assert timer.seconds == 600
    timer.act()
    assert kept.loaded == []


def test_a_job_stops_the_timer_and_starts_another(timers: Timers) -> None:
    kept = OnGpu(Settings(gpu_idle_timeout=600))
    with kept.use("a", lambda: "pipeline"):
        pass
    (first,) = timers.running
    with kept.use("a", lambda: "pipeline"):
        assert timers.running == []
        first.act()  # it had gone off already when it was cancelled
        assert kept.loaded == ["a"]
    (second,) = timers.running
    assert second is not first


def test_no_timer_runs_where_it_is_switched_off_or_there_is_no_gpu(timers: Timers) -> None:
    for kept in (OnGpu(Settings(gpu_idle_timeout=0)), made()):
        with kept.use("a", lambda: "pipeline"):
            pass
    assert timers.running == []


def test_a_job_that_fails_starts_the_timer_too(timers: Timers) -> None:
    kept = OnGpu(Settings(gpu_idle_timeout=600))
    with pytest.raises(ValueError, match="broken"), kept.use("a", lambda: "pipeline"):
        raise ValueError("broken")
    assert len(timers.running) == 1


def test_the_host_s_memory_is_what_the_kernel_says() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024  # its first line is MemTotal
    assert 50 * MIB < free_host_bytes() <= total


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8000 * MIB),
        ({"memory.max": "max", "memory.current": "1"}, 8000 * MIB),
        ({"memory.max": str(2000 * MIB), "memory.current": str(500 * MIB), "memory.stat": "anon 5\n"}, 1500 * MIB),
        (
            {
                "memory.max": str(2000 * MIB),
                "memory.current": str(1900 * MIB),
                "memory.stat": f"anon 5\ninactive_file {700 * MIB}\n",
            },
            800 * MIB,
        ),
        ({"memory.max": str(90_000 * MIB), "memory.current": "1", "memory.stat": "anon 5\n"}, 8000 * MIB),
        (
            {
                "memory/memory.limit_in_bytes": str(2000 * MIB),
                "memory/memory.usage_in_bytes": str(1900 * MIB),
                "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {600 * MIB}\n",
            },
            700 * MIB,
        ),
    ],
    ids=["no-group", "no-limit", "limit", "cache-counts-as-free", "limit-above-the-host", "first-version"],
)
def test_a_container_s_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], free: int
) -> None:
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable: {8000 * 1024} kB\n")
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    places = {"/proc/meminfo": tmp_path / "meminfo", "/sys/fs/cgroup": tmp_path}
    monkeypatch.setattr(residency, "Path", places.__getitem__)
    assert free_host_bytes() == free


def test_the_operator_s_budget_is_a_ceiling() -> None:
    assert made(ram_budget_mb=64).free_bytes() == 64 * MIB
    assert made(ram_budget_mb=10**9).free_bytes() < 10**9 * MIB


def test_what_is_loaded_counts_against_the_budget_of_a_processor() -> None:
    kept = made(ram_budget_mb=64)
    with kept.use("a", lambda: "pipeline", lambda pipeline: 40 * MIB):
        assert (kept.budget_bytes, kept.free_bytes()) == (64 * MIB, 24 * MIB)
    with kept.use("b", lambda: "pipeline", lambda pipeline: 40 * MIB):
        assert kept.free_bytes() == 0
    kept.offload(lambda key: key == "a")
    assert kept.free_bytes() == 24 * MIB
    assert made().budget_bytes is None


def test_the_process_s_age_is_the_kernel_s() -> None:
    before, first = time.monotonic(), process_seconds()
    code = "from engine.residency import process_seconds; print(process_seconds())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    passed = process_seconds() - first
    assert 0 < float(printed) < passed + TICK
    assert passed < time.monotonic() - before + TICK


def test_the_report_on_a_cpu() -> None:
    report = made().report()
    assert (report["name"], report["device"]) == (None, "cpu") and report["ram_free_mb"] > 0
    assert made().peak_vram_mb() == 0
