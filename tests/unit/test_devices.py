"""Which arithmetic a device does well, for networks of each kind."""

import pytest
import torch

from engine.pipelines.devices import fastest_dtype, restoration_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "narrow", "dtype"),
    [
        ((8, 0), False, torch.bfloat16),
        ((9, 0), True, torch.bfloat16),
        ((12, 0), False, torch.bfloat16),
        ((7, 5), True, torch.float16),
        ((7, 0), False, torch.float32),
    ],
)
def test_values_that_outgrow_float16_are_kept_in_range(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], narrow: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert restoration_dtype(GPU, narrow=narrow) == dtype


@pytest.mark.parametrize(
    ("able", "dtype"),
    [({"amx_bf16": True}, torch.bfloat16), ({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_a_cpu_takes_what_it_multiplies_fast(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert restoration_dtype(CPU, narrow=False) == fastest_dtype(CPU) == dtype
