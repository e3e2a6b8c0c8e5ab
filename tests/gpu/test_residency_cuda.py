"""Models on a GPU: an idle one leaves it, its memory comes back, and the next job says that it had to wait."""

from pathlib import Path

import pytest
import torch

from engine.jobs.fitness import device
from tests.worker.conftest import until
from tests.worker.inside import inside, tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def test_an_idle_model_leaves_the_gpu_and_the_next_job_is_cold(tmp_path: Path) -> None:
    with inside(tmp_path, device="cuda", gpu_idle_timeout=0.5) as fresh:
        told = [fresh.ask(**tiny(tmp_path))["metrics"]["cold"] for _ in range(2)]
        held = torch.cuda.memory_allocated()
        until(lambda: fresh.ask(action="info")["loaded"] == [], seconds=10)
        assert torch.cuda.memory_allocated() < held
        told += [fresh.ask(**tiny(tmp_path))["metrics"]["cold"] for _ in range(2)]
    assert told == [True, False, True, False]


def test_the_gpu_of_this_machine_is_fit() -> None:
    assert device("auto") == device("cuda")
    assert torch.cuda.get_device_name() in device("cuda")


def test_a_budget_is_lessened_by_what_is_loaded(tmp_path: Path) -> None:
    with inside(tmp_path, device="cuda", vram_budget_mb=1000) as fresh:
        residency = fresh.worker.desk.residency
        before = residency.free_bytes()
        fresh.ask(action="warm")
        assert residency.free_bytes() < before <= 1000 * 2**20
