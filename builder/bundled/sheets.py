"""Surfaces to cut pictures from: colours, gradients, clouds with 1/f spectra, stripes, checkers, as Pillow images."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Palette = NDArray[np.float32]  # (N, 3) in [0, 255]
Field = NDArray[np.float32]  # (S, S), about [0, 1]


def draw_palette(rng: np.random.Generator) -> Palette:
    """Three to six colours whose hues lie near each other, mostly of little saturation, as in a photograph."""
    count = int(rng.integers(3, 7))
    hue = rng.random() + rng.normal(0, rng.choice([0.03, 0.1, 0.4]), count)
    saturation = rng.beta(1.3, 2.5, count)
    value = rng.uniform(0.03, 1.0, count)
    phase = (hue[:, None] + np.array([0.0, 1 / 3, 2 / 3])) * 2 * np.pi
    wheel = 0.5 + 0.5 * np.cos(phase)
    return np.asarray(255 * value[:, None] * (1 - saturation[:, None] * wheel), np.float32)


def pick(rng: np.random.Generator, palette: Palette) -> tuple[int, int, int]:
    """A colour near one of the palette's."""
    colour = palette[rng.integers(len(palette))] + rng.normal(0, 14, 3) + rng.normal(0, 14)
    red, green, blue = (int(c) for c in np.clip(colour, 0, 255))
    return red, green, blue


def draw_sheet(rng: np.random.Generator, side: int, palette: Palette, unit: float) -> Image.Image:
    """A square surface of two or three colours. `unit` is how many of its pixels make one of the final picture."""
    kinds: list[Callable[[np.random.Generator, int, float], Field]] = [gradient, clouds, ridges, stripes, checker]
    field = kinds[rng.choice(len(kinds), p=[0.2, 0.35, 0.2, 0.15, 0.1])](rng, side, unit)
    stops = np.array([pick(rng, palette) for _ in range(3)], np.float32)
    # Most surfaces are quiet: their colours lie close together.
    stops = stops[0] + (stops - stops[0]) * np.float32(rng.choice([0.12, 0.3, 0.6, 1.0]))
    place = np.clip(field, 0, 1) * 2
    low, high = np.minimum(place, 1)[..., None], np.maximum(place - 1, 0)[..., None]
    rgb = stops[0] + (stops[1] - stops[0]) * low + (stops[2] - stops[1]) * high
    return Image.fromarray(np.clip(rgb + 0.5, 0, 255).astype(np.uint8))


def clouds(rng: np.random.Generator, side: int, unit: float) -> Field:
    """Noise whose amplitude falls as a power of frequency, often stretched along one direction."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    angle, stretch = rng.uniform(0, np.pi), rng.choice([1.0, 1.0, 2.0, 5.0])
    along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    frequency = np.hypot(along * stretch, across)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side)))
    field = np.fft.irfft2(spectrum * frequency ** -rng.uniform(0.7, 2.0), s=(side, side))
    return np.asarray(0.5 + field / field.std() * rng.uniform(0.15, 0.4), np.float32)


def ridges(rng: np.random.Generator, side: int, unit: float) -> Field:
    """Folded clouds: veins, cracks and blotches with hard edges."""
    field = clouds(rng, side, unit) - 0.5
    folded = np.abs(field) * 3 if rng.random() < 0.5 else np.tanh(field * rng.uniform(4, 40)) * 0.5 + 0.5
    return np.asarray(folded, np.float32)


def gradient(rng: np.random.Generator, side: int, unit: float) -> Field:
    """A linear or a radial passage."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        return np.asarray((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.5, np.float32)
    return np.asarray(np.hypot(x - rng.random(), y - rng.random()), np.float32)


def stripes(rng: np.random.Generator, side: int, unit: float) -> Field:
    """Waves of one direction, soft or hard, down to three final pixels a period, where x2 can still recover them."""
    period = unit * np.exp(rng.uniform(np.log(3.0), np.log(40.0)))
    wave = np.sin(_phase(rng, side, period))
    return (0.5 + 0.5 * np.tanh(wave * rng.uniform(0.5, 8))).astype(np.float32)


def checker(rng: np.random.Generator, side: int, unit: float) -> Field:
    period = unit * np.exp(rng.uniform(np.log(4.0), np.log(50.0)))
    angle = rng.uniform(0, np.pi)
    squares = np.sin(_phase(rng, side, period, angle)) * np.sin(_phase(rng, side, period, angle + np.pi / 2))
    return (squares > 0).astype(np.float32)


def _phase(rng: np.random.Generator, side: int, period: float, angle: float | None = None) -> Field:
    turn = rng.uniform(0, np.pi) if angle is None else angle
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    return np.asarray((x * np.cos(turn) + y * np.sin(turn)) * (2 * np.pi / period) + rng.uniform(0, 6), np.float32)
