"""Whole tiny pipelines in half precision against the same in float32."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from builder.tiny.layouts import make
from engine.frames import RGB24, Frame, Raster
from engine.pipelines.seedvr2.load import load_seedvr2
from engine.pipelines.seedvr2.options import SeedVR2Options

FLOOR = 40.0  # dB


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make(folder, ["3b-pth", "7b-pth"])
    return folder


def restored(folder: Path, kind: str, dtype: torch.dtype) -> np.ndarray:
    """Five frames of a pan over a photograph, 8 bits."""
    model = load_seedvr2(
        folder / f"tiny_seedvr2_ema_{kind}.pth",
        folder / "tiny_ema_vae.pth",
        folder / "tiny_pos_emb.pt",
        device=torch.device("cpu"),
        dtype=dtype,
    )
    photo = data.astronaut()[100:196, 150:300]
    frames = [Frame((photo[:48, n : n + 64].copy(),), Fraction(n)) for n in range(5)]
    options = SeedVR2Options(free_bytes=10**12, batch_size=5, color_correction="none")
    made = model(frames, Raster(64, 48, RGB24), Raster(96, 72, RGB24), options)
    return np.stack([frame.planes[0] for frame in made]).astype(float)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["3b", "7b"])
def test_half_precision_gives_the_same_picture(folder: Path, kind: str, dtype: torch.dtype) -> None:
    wanted, got = restored(folder, kind, torch.float32), restored(folder, kind, dtype)
    psnr = 10 * math.log10(255**2 / np.square(got - wanted).mean())
    print(f"{kind} {dtype}: {psnr:.1f} dB, worst {np.abs(got - wanted).max():.0f} of 255")
    assert psnr >= FLOOR
    assert np.ptp(wanted) > 100
