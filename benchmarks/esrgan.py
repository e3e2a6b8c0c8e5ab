"""realesr-animevideov3 on a CPU: our pipeline against the same network run plainly, frames in and frames out.

    python -m benchmarks.esrgan [--size 640x480] [--frames 2] [--repeats 5]

Plainly means as the published video script does it: a chain of modules in NCHW float32, a frame at a time. Runs
alternate, so that what else the machine does falls on all; the ratio is the median over the rounds. Time does not
depend on the weights, which are made by the goldens' rule unless REALESR_ANIMEVIDEOV3 names the published file.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from engine.frames import RGB24, Frame, Raster
from engine.models.esrgan.srvgg import ANIMEVIDEO_V3, SRVGG
from engine.pipelines.devices import fastest_dtype
from engine.pipelines.esrgan import Esrgan, EsrganOptions
from engine.weights.load import read_weights
from tests.parity.esrgan import ANIMEVIDEO_V3 as WEIGHTS
from tests.parity.esrgan import weights_by_rule

CPU = torch.device("cpu")
Picture = NDArray[np.uint8]


def network() -> SRVGG:
    net = SRVGG(ANIMEVIDEO_V3)
    path = os.environ.get(WEIGHTS)
    net.load_state_dict(read_weights(Path(path)) if path else weights_by_rule(net))
    return net.eval()


def plainly(body: nn.Module, pictures: list[Picture]) -> list[Picture]:
    """What the published script does with each frame."""
    results = []
    with torch.no_grad():
        for picture in pictures:
            x = torch.from_numpy(np.transpose(picture.astype(np.float32) / 255, (2, 0, 1)).copy())[None]
            y = F.pixel_shuffle(body(x), 4) + F.interpolate(x, scale_factor=4, mode="nearest")
            y = y.squeeze(0).float().clamp_(0, 1).numpy()
            results.append((np.transpose(y, (1, 2, 0)) * 255).round().astype(np.uint8))
    return results


def ours(upscaler: Esrgan, pictures: list[Picture]) -> list[Picture]:
    height, width = pictures[0].shape[:2]
    source, target = Raster(width, height, RGB24), Raster(4 * width, 4 * height, RGB24)
    frames = [Frame((picture,), Fraction(i, 25)) for i, picture in enumerate(pictures)]
    out = upscaler(frames, source, target, EsrganOptions(free_bytes=2**33))
    return [frame.planes[0] for frame in out]  # type: ignore[misc]


def photographs(count: int, height: int, width: int) -> list[Picture]:
    """Views of one photograph, each a little further on, as a panning camera's."""
    from skimage import data

    photo = np.tile(data.astronaut(), (-(-height // 512) + 1, -(-width // 512) + 1, 1))
    return [np.ascontiguousarray(photo[:height, 8 * i : 8 * i + width]) for i in range(count)]


def psnr(a: list[Picture], b: list[Picture]) -> float:
    error = statistics.fmean(float(np.square(p.astype(np.float32) - q).mean()) for p, q in zip(a, b, strict=True))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def detail_psnr(height: int, width: int, dtype: torch.dtype) -> float:
    """PSNR against float32 before anything is rounded to codes."""
    x = torch.from_numpy(photographs(1, height, width)[0]).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        exact, got = network()(x).clamp(0, 1), network().to(dtype)(x).clamp(0, 1)
    return -10 * float(torch.log10((exact - got).square().mean().clamp(min=1e-15)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.esrgan", description=__doc__)
    parser.add_argument("--size", default="640x480", metavar="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    pictures = photographs(options.frames, height, width)

    fast = fastest_dtype(CPU)
    dtypes = dict.fromkeys([torch.float32, fast])
    body = network().body
    work: dict[str, Callable[[], list[Picture]]] = {"plain float32": lambda: plainly(body, pictures)}
    for dtype in dtypes:
        upscaler = Esrgan(network(), scale=4, name="animevideov3", device=CPU, dtype=dtype)
        work[f"ours {str(dtype).removeprefix('torch.')}"] = lambda upscaler=upscaler: ours(upscaler, pictures)  # type: ignore[misc]

    results = {name: run() for name, run in work.items()}  # also warms up
    rounds = [{name: seconds(run) for name, run in work.items()} for _ in range(options.repeats)]

    print(f"{width}x{height} -> {4 * width}x{4 * height}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'':16} {'best fps':>9} {'median fps':>11} {'ratio':>7}  {'range of ratios':>16}  {'PSNR of frames':>14}")
    for name in work:
        times = [row[name] for row in rounds]
        ratios = sorted(row["plain float32"] / row[name] for row in rounds)
        fps = [options.frames / t for t in (min(times), statistics.median(times))]
        quality = psnr(results[name], results["plain float32"])
        print(
            f"{name:16} {fps[0]:9.3f} {fps[1]:11.3f} {statistics.median(ratios):6.2f}x"
            f"  {ratios[0]:7.2f} - {ratios[-1]:6.2f}  {quality:11.1f} dB"
        )
    print(f"the network in {fast} against float32, before rounding: {detail_psnr(height, width, fast):.1f} dB")


if __name__ == "__main__":
    main()
