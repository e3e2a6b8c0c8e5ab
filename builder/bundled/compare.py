"""Crops side by side: the small picture with its pixels shown, enlarged by bicubic, by the network, and the truth."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from builder.bundled.degrade import halve, jpeg
from builder.bundled.evaluate import bicubic, enlarger, photographs
from builder.bundled.pictures import Picture
from engine.models.esrgan.srvgg import SRVGG

TITLES = ("half the size", "bicubic", "bundled model", "original")
GAP, CAPTION = 4, 16


@dataclass(frozen=True, slots=True)
class Crop:
    """A square of `side` original pixels; `quality` is the JPEG loss of the small picture, None for none."""

    name: str
    left: int
    top: int
    side: int = 96
    quality: int | None = None


CROPS = (
    Crop("chelsea", 116, 84),
    Crop("astronaut", 170, 70),
    Crop("motorcycle_left", 300, 240),
    Crop("page", 40, 60),
)


def comparison(model: SRVGG, crops: tuple[Crop, ...] = CROPS, zoom: int = 2) -> Image.Image:
    """One row per crop. Pictures are enlarged whole and cropped afterwards, as a customer would."""
    pictures = dict(photographs())
    shown = crops[0].side * zoom
    size = len(TITLES) * (shown + GAP) - GAP, CAPTION + len(crops) * (shown + GAP) - GAP
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    for column, title in enumerate(TITLES):
        pen.text((column * (shown + GAP) + 2, 1), title, fill="black", font=ImageFont.load_default(12))
    for row, crop in enumerate(crops):
        for column, picture in enumerate(versions(model, pictures[crop.name], crop)):
            part = Image.fromarray(picture).resize((shown, shown), Image.Resampling.NEAREST)
            canvas.paste(part, (column * (shown + GAP), CAPTION + row * (shown + GAP)))
    return canvas


def versions(model: SRVGG, truth: Picture, crop: Crop) -> list[Picture]:
    """The crop of each column, all of the original's size."""
    low = halve(truth) if crop.quality is None else jpeg(halve(truth), crop.quality)
    nearest = np.repeat(np.repeat(low, 2, 0), 2, 1)
    rows, columns = slice(crop.top, crop.top + crop.side), slice(crop.left, crop.left + crop.side)
    return [picture[rows, columns] for picture in (nearest, bicubic(low), enlarger(model)(low), truth)]
