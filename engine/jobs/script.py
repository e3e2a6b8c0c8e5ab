"""What a generate job will make, settled before any network is loaded: frames, size, and the result they are written
to, enlarged in between where that is asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import PurePosixPath

from engine.catalog import Lora, Model
from engine.errors import InvalidInput, JobError, Problem
from engine.frames import PixelFormat, Raster
from engine.jobs.desk import Desk
from engine.jobs.fields import names
from engine.jobs.generate_rules import sized, source_field
from engine.jobs.outputs import OutputFields
from engine.jobs.plan import (
    LONGEST_STEM,
    Outline,
    container_of,
    demand_possible,
    file_name,
    layout,
    outline,
    spec_of,
    target_raster,
)
from engine.jobs.requests import GenerateRequest, UpscaleRequest
from engine.jobs.sizes import Size
from engine.jobs.upscale_fields import UpscaleFields
from engine.media.info import Clip, MediaInfo
from engine.media.outputs import default_codec, size_problems
from engine.notes import Note

# What one model hands to the next: deeper than what is shown, for an upscaler would enlarge the dither of 8 bits.
BETWEEN = PixelFormat("rgb", 16)


@dataclass(frozen=True, slots=True)
class Chained:
    """The upscale that is to follow, valid as one that a caller asks for by itself."""

    request: UpscaleRequest
    model: Model
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """The same with what it makes of the frames."""

    request: UpscaleRequest
    model: Model
    plan: Outline


@dataclass(frozen=True, slots=True)
class Script:
    """request: every value in effect. source: what the video begins from. plain: the result as it is without being
    enlarged; enlarged: with it, None where that is not asked for. Where it is, `plain` is for when that fails, and
    a codec that cannot hold frames so small gives way to the container's own.
    """

    request: GenerateRequest
    source: MediaInfo | None
    plain: Outline
    enlarged: Chain | None
    notes: tuple[Note, ...]

    @property
    def final(self) -> Outline:
        """The result that was asked for."""
        return self.enlarged.plan if self.enlarged else self.plain

    @property
    def target(self) -> Raster:
        """What the generator makes: frames for the encoder, or for the upscaler."""
        return self.enlarged.plan.info.raster if self.enlarged else self.plain.target

    @property
    def frames_in(self) -> int:
        """How many frames of the source are used."""
        return {"t2v": 0, "i2v": 1, "v2v": self.plain.frames}[self.request.kind]


def draw_up(
    request: GenerateRequest,
    model: Model,
    loras: Sequence[Lora],
    chained: Chained | None,
    source: MediaInfo | None,
    name: str,
    most_pixels: int,
) -> Script:
    """Settle everything for this source of that name. Raises InvalidInput."""
    notes = [] if source is None else [*source.notes, *_demand_media(request, source)]
    request, more = sized(request, model, source, loras)
    made = _made(request)
    if made.raster.width * made.raster.height > most_pixels:
        size = f"{made.raster.width}x{made.raster.height}"
        text = f"{size} is more than the {most_pixels} pixels that this worker writes (MAX_OUTPUT_PIXELS)"
        raise InvalidInput([Problem("size", text)])
    who = f"{PurePosixPath(name).stem[:LONGEST_STEM] or request.kind}_{model.name}_{model.precision.lower()}"

    def named(container: str, height: int) -> str:
        return file_name(request, container, f"{who}_{height}p_s{request.seed}_{float(made.duration):.3g}s")

    plain = _plain(request if chained is None else _writable(request, made), made, named)
    notes += [*more, *plain.notes]
    if chained is None:
        return Script(request, source, plain, None, tuple(notes))
    with named_within("upscale"):
        plan = outline(chained.request, chained.model, made, name, most_pixels)
    plan = replace(plan, filename=named(plan.spec.container, plan.target.height))
    chain = Chain(chained.request, chained.model, plan)
    return Script(request, source, plain, chain, (*notes, *chained.notes, *plan.notes))


def find_chained(request: GenerateRequest, desk: Desk) -> Chained | None:
    """The upscale that a request asks for besides, checked like one of its own. Raises JobError under `upscale.`"""
    if request.upscale is None:
        return None
    with named_within("upscale"):
        asked = _as_upscale(request, request.upscale)
        model = desk.model(asked.model)
        family = desk.upscaling(model)
        demand_possible(asked)
        settled, notes = family.settle(asked)
    return Chained(settled, model, notes)


@contextmanager
def named_within(outer: str) -> Iterator[None]:
    """What is wrong with a field of the upscale is told under the name that the caller wrote it by."""
    own = names(UpscaleFields)
    try:
        yield
    except InvalidInput as error:
        problems = [Problem(f"{outer}.{p.field}" if p.field in own else p.field, p.text) for p in error.problems]
        raise InvalidInput(problems, hint=error.hint) from error
    except JobError as error:
        error.field = f"{outer}.{error.field}" if error.field in own else error.field
        raise


def _as_upscale(request: GenerateRequest, asked: UpscaleFields) -> UpscaleRequest:
    """The same wishes, with those of the output, as an upscale's."""
    wishes = {name: getattr(asked, name) for name in asked.model_fields_set}
    output = {name: getattr(request, name) for name in OutputFields.model_fields if name in request.model_fields_set}
    return UpscaleRequest.model_validate({**wishes, **output})


def _demand_media(request: GenerateRequest, info: MediaInfo) -> list[Note]:
    """Raises InvalidInput where a video was given for an image or the other way round."""
    field = source_field(request)
    if request.kind == "v2v" and info.kind == "image":
        text = "is an image, and `v2v` begins from a video: give it as `image` for `i2v`"
        raise InvalidInput([Problem(field, text)])
    if request.kind == "i2v" and info.animated:
        return [Note("FIRST_FRAME_USED", f"the image is an animation of {info.frames} frames; its first one was used")]
    if request.kind == "i2v" and info.kind == "video":
        text = "is a video, and `i2v` begins from an image: give it as `video` for `v2v`, or send a picture"
        raise InvalidInput([Problem(field, text)])
    return []


def _made(request: GenerateRequest) -> MediaInfo:
    """The frames that will be made, as a source of what follows. One frame alone is an image, unless a codec is named
    that only a video has.
    """
    assert request.frames and request.width and request.height  # which is what `sized` settles
    fps = Fraction(str(request.fps))
    still = request.frames == 1 and request.codec is None
    return MediaInfo(
        kind="image" if still else "video",
        container="raw",
        codec="raw",
        raster=Raster(request.width, request.height, BETWEEN),
        rotation=0,
        sample_aspect_ratio=Fraction(1),
        fps=fps,
        frames=request.frames,
        duration=request.frames / fps,
        start=Fraction(0),
        time_base=Fraction(1, fps.numerator),
        variable_rate=False,
        interlaced=False,
        audio=(),
        chapters=0,
        bytes=0,
        animated=False,
    )


def _writable(request: GenerateRequest, made: MediaInfo) -> GenerateRequest:
    """The request in the container's own codec and 8 bits, where its codec does not hold frames of that size."""
    container = container_of(request, made, made.frames)
    if not size_problems(container, request.codec, made.raster.width, made.raster.height):
        return request
    return request.model_copy(update={"codec": default_codec(container), "bit_depth": 8})


def _plain(request: GenerateRequest, made: MediaInfo, named: Callable[[str, int], str]) -> Outline:
    container = container_of(request, made, made.frames)
    codec, pixel, notes = layout(request, made, container)
    if made.kind == "image" and request.output_format is None:
        text = "one frame was asked for, so the result is a png; `output_format: mp4` makes a video of it"
        notes.append(Note("ONE_FRAME", text))
    target = target_raster(made.raster, Size(made.raster.width, made.raster.height), pixel)
    spec = spec_of(request, made, container, codec, target)
    return Outline(made, Clip(), made.frames, target, spec, named(container, target.height), tuple(notes))
