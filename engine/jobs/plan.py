"""What a job will make of its source, settled before any frame is read: size, layout, codec, name."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import PurePosixPath

from engine.catalog import Model
from engine.errors import InvalidInput, Problem
from engine.frames import Colour, PixelFormat, Raster
from engine.jobs.outputs import OutputFields
from engine.jobs.requests import UpscaleRequest
from engine.jobs.sizes import Size, target_size
from engine.jobs.upscale_fields import foreign_fields
from engine.media.info import Clip, MediaInfo
from engine.media.outputs import (
    CONTAINERS,
    OutputSpec,
    choose_pixel,
    default_codec,
    even_required,
    holds_alpha,
    holds_several_frames,
    problems,
    size_problems,
)
from engine.notes import Note
from engine.storage.names import safe_name

BYTES_PER_PIXEL = 0.02  # a frugal guess of what an encoded pixel takes, to refuse only what cannot fit
LONGEST_STEM = 60  # characters of the source's name that the result's keeps, so that what follows is not cut off
HDR_CONTAINERS = ("mp4", "mov", "mkv")
SQUARE = Fraction(1)


@dataclass(frozen=True, slots=True)
class Outline:
    """frames: how many are expected. target: what the pipeline hands to the encoder, which `spec` describes."""

    info: MediaInfo
    clip: Clip
    frames: int
    target: Raster
    spec: OutputSpec
    filename: str
    notes: tuple[Note, ...]

    @property
    def least_bytes(self) -> int:
        """What the result takes on disk, at least."""
        return int(self.target.width * self.target.height * self.frames * BYTES_PER_PIXEL)


def outline(request: UpscaleRequest, model: Model, info: MediaInfo, name: str, most_pixels: int) -> Outline:
    """Settle everything that `request` leaves open for this source. Raises InvalidInput, SourceTooLarge."""
    _demand_media(request, info)
    clip = Clip(request.start, request.end, request.skip_frames, request.max_frames or None)
    frames = info.expected_frames(clip)
    if not frames:
        raise InvalidInput([Problem("start" if request.start else "skip_frames", _nothing_left(info))])
    container = container_of(request, info, frames)
    codec, pixel, notes = layout(request, info, container)
    size = target_size(
        request,
        info.raster.width,
        info.raster.height,
        model_scale=model.scale,
        even=even_required(container),
        most_pixels=most_pixels,
    )
    aspect = info.sample_aspect_ratio if request.output_dims is None else Fraction(1)
    if aspect != 1 and CONTAINERS[container].kind != "video":
        text = f"the source's pixels are {aspect} as wide as high, and {container} knows only square ones"
        notes.append(Note("ASPECT_RATIO_LOST", f"{text}; `output_dims` gives the size as it should be seen"))
    target = target_raster(info.raster, size, pixel)
    spec = spec_of(request, info, container, codec, target, aspect)
    filename = file_name(request, container, _filename(request, model, size, name, clip, info))
    notes = [*info.notes, *_ignored(request, model), *notes, *size.notes]
    return Outline(info, clip, frames, target, spec, filename, tuple(notes))


def container_of(request: OutputFields, info: MediaInfo, frames: int) -> str:
    """What the result is written as. Raises InvalidInput where that cannot hold so many frames."""
    container = request.output_format or ("png" if info.kind == "image" else "mp4")
    if frames > 1 and not holds_several_frames(container):
        text = f"{container} holds one picture and there are {frames}; ask for png_sequence, webp, gif or mp4"
        raise InvalidInput([Problem("output_format", text)])
    return container


def spec_of(
    request: OutputFields, info: MediaInfo, container: str, codec: str, target: Raster, aspect: Fraction = SQUARE
) -> OutputSpec:
    """All that the encoder must know. Raises InvalidInput for a size that the codec does not take."""
    if wrong := size_problems(container, codec, target.width, target.height):
        raise InvalidInput(wrong)
    return OutputSpec(
        container=container,
        codec=codec,
        width=target.width,
        height=target.height,
        pixel=target.pixel,
        colour=target.colour,
        fps=info.fps,
        time_base=info.time_base,
        sample_aspect_ratio=aspect,
        crf=request.crf,
        preset=request.preset,
        keep_audio=request.audio == "keep",
    )


def file_name(request: OutputFields, container: str, otherwise: str) -> str:
    """The result's name: what was asked for, else a name of our own, with the container's suffix."""
    return safe_name(_suffixed((request.filename or otherwise).strip(), CONTAINERS[container].extension))


def _ignored(request: UpscaleRequest, model: Model) -> list[Note]:
    """A note for every field that was given and means nothing to the model."""
    given = sorted(request.model_fields_set & foreign_fields(model.family, model.mixed))
    return [Note("FIELD_IGNORED", f"`{name}` means nothing to {model.name}, so it was ignored") for name in given]


def demand_possible(request: OutputFields) -> None:
    """Refuse, before a source is fetched, what none could make right. Raises InvalidInput."""
    container = request.output_format or ("mp4" if request.codec else None)
    if container is None:
        return
    wrong = problems(container, request.codec, bit_depth=request.bit_depth, crf=request.crf, preset=request.preset)
    if wrong:
        raise InvalidInput(wrong)


def _demand_media(request: UpscaleRequest, info: MediaInfo) -> None:
    if request.media not in ("auto", info.kind):
        raise InvalidInput([Problem("media", f"is `{request.media}`, but the source is {_article(info)} {info.kind}")])


def _article(info: MediaInfo) -> str:
    return "an" if info.kind == "image" else "a"


def _nothing_left(info: MediaInfo) -> str:
    return f"leaves nothing of a source of {float(info.duration):.2f} s and {info.frames} frames"


def layout(request: OutputFields, info: MediaInfo, container: str) -> tuple[str, PixelFormat, list[Note]]:
    """Codec and pixel format, and what of the source they cannot hold. Raises InvalidInput."""
    notes = []
    codec: str | None = request.codec
    depth: int = request.bit_depth
    hdr = info.raster.colour.hdr
    if hdr and codec is None and container in HDR_CONTAINERS and "bit_depth" not in request.model_fields_set:
        codec, depth = "hevc", 10
        notes.append(Note("HDR_KEPT", "the source is HDR, so the result is 10-bit HEVC; `bit_depth` overrides it"))
    alpha = info.raster.pixel.alpha
    codec = codec or default_codec(container, alpha=alpha)
    if alpha and container != "jpg" and not holds_alpha(container, codec):
        alpha = False
        text = f"{codec} in {container} holds no alpha, so the picture lies on black"
        notes.append(Note("ALPHA_DROPPED", f"{text}; webm, mov with prores and png keep it"))
    if wrong := problems(container, codec, bit_depth=depth, alpha=alpha, crf=request.crf, preset=request.preset):
        raise InvalidInput(wrong)
    pixel = choose_pixel(container, codec, depth, alpha)
    if hdr and CONTAINERS[container].kind != "video":
        notes.append(
            Note("HDR_UNTAGGED", f"the source is HDR, which {container} cannot say: it will look flat and dim")
        )
    elif hdr and pixel.bits == 8:
        notes.append(Note("HDR_IN_8_BITS", "the source is HDR and 8 bits show bands; mp4 with `bit_depth` 10 does not"))
    return codec, pixel, notes


def target_raster(source: Raster, size: Size, pixel: PixelFormat) -> Raster:
    """Size, layout and colour of the result: the source's colour as far as the layout can say it.

    RGB becomes BT.709 in a video. A video without a tag for its matrix stays without one, unless its new size would
    make players guess another: then the old guess is written down.
    """
    if source.pixel.model == pixel.model:
        target = Raster(size.width, size.height, pixel, source.colour)
        if pixel.model == "rgb" or target.matrix == source.matrix:
            return target
        return replace(target, colour=replace(source.colour, matrix=source.matrix))
    if pixel.model == "yuv":
        return Raster(size.width, size.height, pixel, Colour(1, 1, 1, range=1, chroma_location=1))
    return Raster(size.width, size.height, pixel)


def _filename(request: UpscaleRequest, model: Model, size: Size, name: str, clip: Clip, info: MediaInfo) -> str:
    """`<stem>_<size>_<precision>_<height>p_b<batch>_c<colour>_s<seed>_<seconds>s`, the seconds those of the clip.

    Made from the request and the source alone, so that a repeated job overwrites its own result.
    """
    stem = PurePosixPath(name).stem[:LONGEST_STEM] or "result"
    seconds = float(info.expected_frames(clip) / info.fps) if info.fps else 0.0
    colour = request.color_correction if model.family == "seedvr2" else "none"
    return (
        f"{stem}_{model.name}_{model.precision.lower()}_{size.height}p_b{request.batch_size}_c{colour}"
        f"_s{request.seed}_{seconds:.3g}s"
    )


def _suffixed(filename: str, extension: str) -> str:
    """`filename` ending in the extension that the container has, whatever it ended in."""
    stem, dot, suffix = filename.rpartition(".")
    known = {row.extension for row in CONTAINERS.values()} | {"jpeg", "m4v", "avi"}
    return f"{stem if dot and suffix.lower() in known else filename}.{extension}"
