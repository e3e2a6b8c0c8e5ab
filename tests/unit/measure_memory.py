"""Run by `test_esrgan_memory` in a process of its own: what one pass takes, and what its plan said it would."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from engine.frames import RGB24, YUV420P, Frame, Raster
from engine.models.esrgan.names import build
from engine.models.esrgan.rrdb import RRDBConfig
from engine.models.esrgan.srvgg import SRVGGConfig
from engine.pipelines.esrgan import Esrgan, EsrganOptions

CASES = {  # network, width, height, share of the network's scale, batch, tile, dtype, by bands
    "compact": (SRVGGConfig(16, 4, 2), 1280, 720, 1.0, 1, 0, torch.bfloat16, True),
    "compact, batch": (SRVGGConfig(16, 4, 2), 1280, 720, 1.0, 4, 0, torch.bfloat16, True),
    "compact, wide": (SRVGGConfig(64, 2, 4), 640, 480, 1.0, 1, 0, torch.bfloat16, True),
    "compact, wide, resized": (SRVGGConfig(64, 2, 4), 640, 480, 0.5, 1, 0, torch.bfloat16, True),
    "compact, wide, float32": (SRVGGConfig(64, 2, 4), 640, 480, 1.0, 2, 0, torch.float32, True),
    "compact, whole": (SRVGGConfig(64, 2, 4), 640, 480, 1.0, 1, 0, torch.bfloat16, False),
    "compact, whole, float32": (SRVGGConfig(64, 2, 4), 640, 480, 1.0, 2, 0, torch.float32, False),
    "compact, tiles": (SRVGGConfig(64, 2, 4), 640, 480, 1.0, 1, 128, torch.float32, False),
    "dense": (RRDBConfig(blocks=1), 256, 256, 1.0, 1, 0, torch.bfloat16, False),
    "dense, float32": (RRDBConfig(blocks=1), 256, 256, 1.0, 1, 0, torch.float32, False),
    "dense, batch": (RRDBConfig(blocks=1), 192, 192, 1.0, 2, 0, torch.float32, False),
    "dense, tiles": (RRDBConfig(blocks=1), 512, 512, 1.0, 1, 128, torch.bfloat16, False),
    "dense, unshuffled": (RRDBConfig(blocks=1, unshuffle=2), 512, 512, 1.0, 1, 0, torch.bfloat16, False),
}


def status(field: str) -> int:
    """Bytes of VmRSS, or of VmHWM, its peak; getrusage would count the parent's before this program began."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def main(case: str) -> None:
    torch.set_num_threads(2)  # on any machine: each thread takes room of its own
    config, width, height, share, batch, tile, dtype, banded = CASES[case]
    upscaler = Esrgan(build(config), scale=config.scale, name=case, device=torch.device("cpu"), dtype=dtype)
    upscaler.banded = banded
    scale = config.scale * share
    source, target = Raster(width, height, RGB24), Raster(int(width * scale), int(height * scale), YUV420P)
    frames = [Frame((np.zeros((height, width, 3), np.uint8) + i,), Fraction(i)) for i in range(batch)]
    options = EsrganOptions(free_bytes=2**40, batch_size=batch, tile=tile)
    tiny = Raster(16, 16, RGB24)  # so that libraries are loaded and threads have begun
    small = Frame((np.zeros((16, 16, 3), np.uint8),), Fraction(0))
    list(upscaler([small], tiny, Raster(int(16 * scale), int(16 * scale), YUV420P), options))
    upscaler.warm(10**12)
    before = status("VmRSS")
    for _ in upscaler(frames, source, target, options):
        pass
    print(status("VmHWM") - before, upscaler.plan.plan.bytes)


if __name__ == "__main__":
    main(sys.argv[1])
