"""How large the result becomes. Arithmetic on what was asked; no frame is touched here.

The first of these that is given decides: `output_dims`, `width`/`height`, `resolution`, `output_magnification`,
`outscale`, the model's own scale or, where it has none, a short edge of 1080. `max_edge` caps the result.

Rounding: each edge is computed exactly, then rounded to the nearest whole number, or to the nearest even one where the
codec needs that; down when in the middle, so that no box and no `max_edge` is ever passed. No edge gets below 1 (2).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from engine.errors import InvalidInput, Problem
from engine.jobs.upscale_fields import UpscaleFields
from engine.jobs.wording import listed
from engine.notes import Note

DEFAULT_SHORT_EDGE = 1080


@dataclass(frozen=True, slots=True)
class Size:
    """The result's size in pixels, and what its caller should know about how it came about."""

    width: int
    height: int
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wish:
    """The exact size that `fields` ask for; the caller gave none of them when it is the `default`."""

    fields: tuple[str, ...]
    width: Fraction
    height: Fraction
    default: bool = False

    def whole(self, step: int) -> tuple[int, int]:
        """The size in whole multiples of `step`."""
        return _nearest(self.width, step), _nearest(self.height, step)


def target_size(
    asked: UpscaleFields, width: int, height: int, *, model_scale: int | None, even: bool, most_pixels: int
) -> Size:
    """The result's size for a source of `width` x `height` pixels as shown; its sample aspect ratio stays as it is.

    model_scale: the network's own factor, None where it has none. even: the codec halves its chroma, so that both edges
    must be even. Raises InvalidInput when the result would hold more than `most_pixels`.
    """
    wish, *ignored = _wishes(asked, width, height, model_scale)
    capped = _capped(wish, asked.max_edge)
    step = 2 if even else 1
    size = capped.whole(step)
    if size[0] * size[1] > most_pixels:
        raise InvalidInput([Problem(wish.fields[0], _too_large(wish, size, most_pixels))])
    notes = [Note("SIZE_OVERRIDDEN", _overridden(other, wish)) for other in ignored if not other.default]
    if capped is not wish:
        notes.append(Note("SIZE_OVERRIDDEN", f"{_said(wish)} was capped by `max_edge` to {_times(size)}"))
    if size != (plain := capped.whole(1)):
        notes.append(Note("SIZE_ROUNDED", f"{_times(plain)} became {_times(size)}: the codec needs even edges"))
    return Size(*size, tuple(notes))


def _wishes(asked: UpscaleFields, width: int, height: int, model_scale: int | None) -> Iterator[_Wish]:
    """Every size that was asked for, the one that decides first; the default comes last."""
    if asked.output_dims is not None:
        yield _Wish(("output_dims",), Fraction(asked.output_dims[0]), Fraction(asked.output_dims[1]))
    if asked.width is not None or asked.height is not None:
        yield _fitted(asked.width, asked.height, width, height)
    factors = {
        "resolution": asked.short_edge and Fraction(asked.short_edge, min(width, height)),
        "output_magnification": asked.output_magnification and _decimal(asked.output_magnification),
        "outscale": asked.outscale and _decimal(asked.outscale),
    }
    for field, factor in factors.items():
        if factor:
            yield _Wish((field,), width * factor, height * factor)
    if model_scale is not None:
        yield _Wish(("outscale",), Fraction(width * model_scale), Fraction(height * model_scale), default=True)
    else:
        factor = Fraction(DEFAULT_SHORT_EDGE, min(width, height))
        yield _Wish(("resolution",), width * factor, height * factor, default=True)


def _fitted(box_width: int | None, box_height: int | None, width: int, height: int) -> _Wish:
    """A box to fit inside when both are given; else that edge."""
    fields = tuple(name for name, edge in (("width", box_width), ("height", box_height)) if edge is not None)
    factor = min(Fraction(box, edge) for box, edge in ((box_width, width), (box_height, height)) if box is not None)
    return _Wish(fields, width * factor, height * factor)


def _capped(wish: _Wish, max_edge: int) -> _Wish:
    """The same wish, where neither edge passes `max_edge`; 0 caps nothing."""
    longest = max(wish.width, wish.height)
    if not max_edge or longest <= max_edge:
        return wish
    return replace(wish, width=wish.width * max_edge / longest, height=wish.height * max_edge / longest)


def _nearest(exact: Fraction, step: int) -> int:
    return max(step, ceil(exact / step - Fraction(1, 2)) * step)


def _decimal(factor: float) -> Fraction:
    """The number that the caller wrote: 1.1 is 11/10, not its binary neighbour."""
    return Fraction(str(factor))


def _said(wish: _Wish) -> str:
    return listed((f"`{field}`" for field in wish.fields), "and")


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _overridden(ignored: _Wish, wish: _Wish) -> str:
    return f"{_said(ignored)} had no effect on the size, because {_said(wish)} decides it"


def _too_large(wish: _Wish, size: tuple[int, int], most_pixels: int) -> str:
    whose = "the model's own size" if wish.default else "this"
    return (
        f"{whose} would make {_times(size)}, {size[0] * size[1]} pixels; this worker writes at most {most_pixels} "
        "(MAX_OUTPUT_PIXELS): ask for a smaller size"
    )
