"""Procedural pictures to learn from: dead leaves, text, line art and surfaces, drawn large and reduced as by a lens.

Everything is drawn on a canvas several times the final size, so that every edge is anti-aliased, then blurred a
little and reduced by one of several filters: a network that only ever saw perfect edges rings on photographs.
One generator seeded by (seed, stream, index) draws each picture, so that any of them can be made alone.
"""

import string
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from builder.bundled.sheets import Palette, clouds, draw_palette, draw_sheet, pick

Picture = NDArray[np.uint8]  # (H, W, 3)
Point = tuple[float, float]

TRAINING, HELD_OUT, STEPS = 0, 1, 2  # streams of random numbers that never meet

REDUCERS = (Image.Resampling.BOX, Image.Resampling.HAMMING, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def generator(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream, index])


def draw_picture(rng: np.random.Generator, side: int) -> Picture:
    """One square picture of `side` pixels."""
    unit = int(rng.choice([2, 3]))
    canvas_side = side * unit
    palette = draw_palette(rng)
    sheets = [draw_sheet(rng, canvas_side, palette, unit) for _ in range(int(rng.integers(2, 5)))]
    kinds: list[Callable[[np.random.Generator, list[Image.Image], Palette, int], Image.Image]]
    kinds = [dead_leaves, text, line_art, surfaces]
    canvas = kinds[rng.choice(len(kinds), p=[0.55, 0.17, 0.13, 0.15])](rng, sheets, palette, unit)
    return _grain(rng, _shade(rng, _reduce(rng, canvas, side, unit)))


def dead_leaves(rng: np.random.Generator, sheets: list[Image.Image], palette: Palette, unit: int) -> Image.Image:
    """Shapes that hide each other, their number falling with the cube of their size: the statistics of photographs."""
    canvas = sheets[0].copy()
    side = canvas.width
    smallest, largest = unit * rng.choice([1.5, 3.0, 6.0]), side * rng.uniform(0.15, 0.5)
    soft = rng.random() < 0.25
    for _ in range(int(rng.integers(60, 600))):
        u = rng.random()
        radius = (u * largest**-2 + (1 - u) * smallest**-2) ** -0.5
        _paste_leaf(rng, canvas, sheets, palette, radius, blur=unit * rng.uniform(0, 4) if soft else 0.0)
    return canvas


def text(rng: np.random.Generator, sheets: list[Image.Image], palette: Palette, unit: int) -> Image.Image:
    """Lines of random words at several sizes, some turned."""
    canvas = sheets[0].copy() if rng.random() < 0.5 else Image.new("RGB", sheets[0].size, pick(rng, palette))
    turn = rng.random() < 0.3
    y = float(rng.uniform(-10, 10))
    while y < canvas.height:
        size = unit * float(np.exp(rng.uniform(np.log(7), np.log(42))))
        line = Image.new("L", canvas.size)
        pen = ImageDraw.Draw(line)
        pen.text((rng.uniform(-20, 20), y), _words(rng), fill=255, font=ImageFont.load_default(size))
        if turn:
            line = line.rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC)
        canvas.paste(_ink(rng, palette), mask=line)
        y += size * float(rng.uniform(1.0, 1.6))
    return canvas


def line_art(rng: np.random.Generator, sheets: list[Image.Image], palette: Palette, unit: int) -> Image.Image:
    """Thin curves, hatchings and outlines on a plain or a quiet ground."""
    canvas = sheets[0].copy() if rng.random() < 0.4 else Image.new("RGB", sheets[0].size, pick(rng, palette))
    pen = ImageDraw.Draw(canvas)
    side = canvas.width
    for _ in range(int(rng.integers(10, 60))):
        width = max(1, round(unit * float(np.exp(rng.uniform(np.log(0.6), np.log(5))))))
        start, colour = rng.uniform(0, side, 2), _ink(rng, palette)
        if rng.random() < 0.3:
            step, away = rng.uniform(3, 9) * unit, rng.normal(0, side / 5, 2)
            across = np.array([-away[1], away[0]]) / np.hypot(*away) * step
            for n in range(int(rng.integers(3, 12))):
                pen.line(_points([start + across * n, start + across * n + away]), fill=colour, width=width)
        else:
            pen.line(_points(_curve(rng, start, side)), fill=colour, width=width, joint="curve")
    return canvas


def surfaces(rng: np.random.Generator, sheets: list[Image.Image], palette: Palette, unit: int) -> Image.Image:
    """One surface, or a few large shapes of others on it."""
    canvas = sheets[0].copy()
    for _ in range(int(rng.integers(0, 6))):
        _paste_leaf(rng, canvas, sheets, palette, canvas.width * rng.uniform(0.1, 0.5), blur=0.0)
    return canvas


def outline(rng: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """The corners of an ellipse, a rectangle, a polygon, a blade or a blob, turned at random, about the origin."""
    kind = rng.choice(5, p=[0.25, 0.2, 0.2, 0.15, 0.2])
    if kind in (0, 4):
        angle = np.linspace(0, 2 * np.pi, 12 + int(np.sqrt(radius) * 4), endpoint=False)
        waves = sum(rng.normal(0, 0.25 / n) * np.cos(n * angle + rng.uniform(0, 6)) for n in range(2, 6))
        reach = np.maximum(1 + waves, 0.2) if kind == 4 else np.ones_like(angle)
        corners = np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None]
    elif kind == 2:
        angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.4, 1.3, (len(angle), 1))
    else:
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    corners = corners * [1.0, rng.uniform(0.05, 0.2) if kind == 3 else rng.uniform(0.4, 1.0)] * radius
    turn = rng.uniform(0, 2 * np.pi)
    return np.asarray(corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]))


def _paste_leaf(
    rng: np.random.Generator,
    canvas: Image.Image,
    sheets: list[Image.Image],
    palette: Palette,
    radius: float,
    blur: float,
) -> None:
    corners = outline(rng, radius)
    side = canvas.width
    margin = int(3 * blur) + 2
    low = np.floor(corners.min(0)).astype(int) - margin
    width, height = (int(n) for n in np.minimum(np.ceil(corners.max(0)).astype(int) + margin - low, side))
    centre = rng.uniform(0, side, 2)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon(_points(corners - low), fill=255)
    if blur > 0.3:
        mask = mask.filter(ImageFilter.GaussianBlur(blur))
    flat = Image.new("RGB", mask.size, pick(rng, palette))
    sheet = sheets[rng.integers(len(sheets))]
    left, top = (int(rng.integers(0, side - n + 1)) for n in mask.size)
    fill = Image.blend(flat, sheet.crop((left, top, left + width, top + height)), rng.choice([0.0, 0.25, 0.6, 1.0]))
    canvas.paste(fill, (int(centre[0] + low[0]), int(centre[1] + low[1])), mask)


def _reduce(rng: np.random.Generator, canvas: Image.Image, side: int, unit: int) -> Image.Image:
    """To the final size through a lens: now and then a sharp one, mostly one that blurs by part of a pixel."""
    if rng.random() < 0.65:
        canvas = canvas.filter(ImageFilter.GaussianBlur(unit * rng.uniform(0.1, 0.9)))
    return canvas.resize((side, side), REDUCERS[rng.integers(len(REDUCERS))])


def _shade(rng: np.random.Generator, picture: Image.Image) -> NDArray[np.float32]:
    """Uneven light over half of the pictures."""
    rgb = np.asarray(picture, np.float32)
    if rng.random() < 0.5:
        return rgb
    light = Image.fromarray(clouds(rng, 8, 1)).resize(picture.size, Image.Resampling.BICUBIC)
    return np.asarray(rgb * np.clip(0.6 + 0.6 * np.asarray(light), 0.3, 1.3)[..., None], np.float32)


def _grain(rng: np.random.Generator, rgb: NDArray[np.float32]) -> Picture:
    """A camera's noise on some of them: it belongs to the picture, so that clean input is not smeared."""
    if rng.random() < 0.35:
        colours = 1 if rng.random() < 0.5 else 3
        rgb = rgb + rng.normal(0, rng.uniform(0.5, 4.0), (*rgb.shape[:2], colours)).astype(np.float32)
    return np.asarray(np.clip(rgb + 0.5, 0, 255), np.uint8)


def _ink(rng: np.random.Generator, palette: Palette) -> tuple[int, int, int]:
    """Black, white or a colour."""
    choice = rng.random()
    if choice < 0.5:
        level = int(rng.integers(0, 50)) if choice < 0.3 else int(rng.integers(205, 256))
        return level, level, level
    return pick(rng, palette)


def _words(rng: np.random.Generator) -> str:
    letters = string.ascii_lowercase * 3 + string.ascii_uppercase + string.digits + ".,:;!?-()&%"
    return " ".join("".join(rng.choice(list(letters), int(rng.integers(1, 10)))) for _ in range(9))


def _curve(rng: np.random.Generator, start: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """A path of constant step whose direction turns slowly."""
    turns = np.cumsum(rng.normal(0, rng.choice([0.0, 0.05, 0.2]), 60)) + rng.uniform(0, 2 * np.pi)
    steps = np.stack([np.cos(turns), np.sin(turns)], 1) * side * rng.uniform(0.003, 0.02)
    return start + np.cumsum(steps, 0)


def _points(corners: "list[NDArray[np.float64]] | NDArray[np.float64]") -> list[Point]:
    return [(float(x), float(y)) for x, y in corners]
