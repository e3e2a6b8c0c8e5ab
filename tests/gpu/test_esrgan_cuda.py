"""The bundled model on a GPU: the same pictures as on a CPU, and its memory given back."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from engine import catalog
from engine.frames import RGB24, Frame, Raster
from engine.pipelines.esrgan import Esrgan, EsrganOptions, load_esrgan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def bundled(device: str, dtype: torch.dtype) -> Esrgan:
    model = catalog.built_in().find("bundled")
    assert model is not None
    return load_esrgan(list(catalog.locate(model, []).paths.values()), None, torch.device(device), dtype)


def enlarged(upscaler: Esrgan) -> np.ndarray:
    pixels = np.random.default_rng(5).integers(0, 256, (48, 64, 3), np.uint8)
    frames = [Frame((pixels,), Fraction(0))]
    source, target = Raster(64, 48, RGB24), Raster(128, 96, RGB24)
    (out,) = upscaler(frames, source, target, EsrganOptions(free_bytes=2**32))
    return out.planes[0].astype(np.float64)


def test_half_precision_on_cuda_gives_the_pictures_of_float32_on_a_cpu() -> None:
    error = enlarged(bundled("cuda", torch.float16)) - enlarged(bundled("cpu", torch.float32))
    assert 10 * np.log10(255**2 / (error**2).mean()) >= 40


def test_a_dropped_pipeline_gives_its_memory_back() -> None:
    before = torch.cuda.memory_allocated()
    upscaler = bundled("cuda", torch.float16)
    enlarged(upscaler)
    assert torch.cuda.memory_allocated() > before
    del upscaler
    assert torch.cuda.memory_allocated() <= before + 2**20
