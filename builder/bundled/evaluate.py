"""Judge the bundled network against bicubic: PSNR of luma on photographs it never saw, and on held-out drawings.

The photographs are those that scikit-image's wheel carries; nothing is downloaded. They judge the finished file only:
every choice of the recipe was made on held-out procedural pictures.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from builder.bundled.degrade import halve, jpeg
from builder.bundled.pictures import HELD_OUT, Picture, draw_picture, generator
from builder.bundled.pool import draw_pairs
from engine.models.esrgan.names import recognise
from engine.models.esrgan.srvgg import SRVGG, SRVGGConfig
from engine.weights.load import CheckpointMismatch, load_weights, read_weights

Enlarge = Callable[[Picture], Picture]

# What a camera, a telescope, a microscope or a scanner saw, colour and grey; drawings, masks and near duplicates are
# left out.
PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    *("page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
BORDER = 4


@dataclass(frozen=True, slots=True)
class Score:
    """One picture: PSNR of luma in dB by bicubic enlargement and by ours."""

    name: str
    bicubic: float
    ours: float

    @property
    def gain(self) -> float:
        return self.ours - self.bicubic


def load(path: Path) -> SRVGG:
    """The network of a weights file, told from its names and shapes as the worker does. Raises CheckpointMismatch."""
    weights = read_weights(path)
    config = recognise(weights)
    if not isinstance(config, SRVGGConfig):
        raise CheckpointMismatch(path.name, "this is not a compact network")
    model = SRVGG(config)
    load_weights(model, weights, path.name)
    return model.eval()


def enlarger(model: SRVGG) -> Enlarge:
    """The network as a function of pictures: float32, rounded to 8 bits at its end."""

    def enlarge(picture: Picture) -> Picture:
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float().div(255)
        with torch.inference_mode():
            y: Tensor = model(x.contiguous(memory_format=torch.channels_last))
        return y[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()

    return enlarge


def bicubic(picture: Picture) -> Picture:
    size = picture.shape[1] * 2, picture.shape[0] * 2
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def photographs() -> Iterator[tuple[str, Picture]]:
    """Name and picture of each, in colour, cut to even sizes. Needs scikit-image installed, imports none of it."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the photographs come with scikit-image: pip install scikit-image")
    for name in PHOTOGRAPHS:
        with Image.open(Path(package.origin).parent / "data" / name) as image:
            picture = np.asarray(image.convert("RGB"))
        yield name.partition(".")[0], picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def score_photographs(model: SRVGG, quality: int | None = None, middle: int | None = None) -> list[Score]:
    """Each photograph halved by bicubic, compressed as JPEG if `quality` says so, and enlarged both ways.

    With `middle`, a square of that many pixels from the middle of each stands for the whole: quicker.
    """
    enlarge, scores = enlarger(model), []
    for name, picture in photographs():
        truth = picture if middle is None else _middle(picture, middle)
        low = halve(truth) if quality is None else jpeg(halve(truth), quality)
        scores.append(Score(name, psnr_y(bicubic(low), truth), psnr_y(enlarge(low), truth)))
    return scores


def held_out_gain(model: SRVGG, seed: int) -> float:
    """Mean gain over bicubic in dB on procedural pictures that were only halved, none of them in the training pool."""
    enlarge, gains = enlarger(model), []
    for truth in _held_out(seed):
        low = halve(truth)
        gains.append(psnr_y(enlarge(low), truth) - psnr_y(bicubic(low), truth))
    return float(np.mean(gains))


def held_out_degraded_gain(model: SRVGG, seed: int) -> float:
    """The same on pictures that went through the losses of the training."""
    enlarge = enlarger(model)
    pairs = draw_pairs(seed + 1, HELD_OUT, 60, 256)
    gains = [psnr_y(enlarge(low), high) - psnr_y(bicubic(low), high) for low, high in zip(*pairs, strict=True)]
    return float(np.mean(gains))


def table(title: str, scores: list[Score]) -> str:
    """A row for each picture and one for their mean."""
    mean = Score("mean", *(float(np.mean([getattr(s, side) for s in scores])) for side in ("bicubic", "ours")))
    rows = [f"{s.name:<18} {s.bicubic:8.2f} {s.ours:8.2f} {s.gain:+8.2f}" for s in [*scores, mean]]
    return "\n".join([title, f"{'PSNR-Y, dB':<18} {'bicubic':>8} {'ours':>8} {'gain':>8}", *rows])


def _middle(picture: Picture, side: int) -> Picture:
    top, left = (max(0, (n - side) // 4 * 2) for n in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def psnr_y(guess: Picture, truth: Picture) -> float:
    """PSNR in dB of BT.601 studio-range luma, without a border of four pixels: the usual way."""
    error = (luma(guess) - luma(truth))[BORDER:-BORDER, BORDER:-BORDER]
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-4)))


def luma(picture: Picture) -> NDArray[np.float64]:
    return np.asarray(16 + picture @ np.array([65.481, 128.553, 24.966]) / 255)


@cache
def _held_out(seed: int) -> list[Picture]:
    return [draw_picture(generator(seed, HELD_OUT, n), 256) for n in range(60)]
