"""What Wan2.1 makes of a valid request: the values in effect, and the size that keeps a source's aspect.

Nothing here reads a file or draws a frame; `sized` needs to know the source, `settled` does not.
"""

import secrets
from collections.abc import Sequence
from fractions import Fraction
from math import isqrt
from typing import Any, TypeVar

from engine.catalog import Lora, Model
from engine.errors import InvalidInput, Problem
from engine.jobs.generate_fields import MAX_EDGE, WAN_STEP
from engine.jobs.requests import GenerateRequest
from engine.media.info import MediaInfo
from engine.notes import Note
from engine.pipelines.wan.limits import FPS, MOST_FRAMES, steps_run

STEPS = {"t2v": 50, "i2v": 40, "v2v": 50}
GUIDANCE = 5.0
SOLVER = "unipc"
SIZE_480P, SIZE_720P = (832, 480), (1280, 720)
MEAN_AREA = isqrt(832 * 480 * 1280 * 720)  # nearer to 480P below, to 720P above
DRAWN_SEEDS = 2**32

T = TypeVar("T")

ONLY_OF = {"strength": ("v2v",), "fit": ("i2v", "v2v")}  # fields that mean something to some tasks alone


def settled(request: GenerateRequest, loras: Sequence[Lora]) -> tuple[GenerateRequest, tuple[Note, ...]]:
    """The request with every value that does not depend on a source, and what was given in vain.

    What the request leaves open goes by the first LoRA that was made for a certain value, before it goes by the task.
    The seed is drawn here, once.
    """
    task = request.kind
    changes: dict[str, Any] = {
        "task": task,
        "steps": request.steps or _first([lora.steps for lora in loras]) or STEPS[task],
        "guidance": request.guidance or _first([lora.guidance for lora in loras]) or GUIDANCE,
        "solver": request.solver or _first([lora.solver for lora in loras]) or SOLVER,
        "seed": request.seed if request.seed >= 0 else secrets.randbelow(DRAWN_SEEDS),
    }
    guided = changes["guidance"] != 1
    if not guided:
        changes["negative_prompt"] = None
    if request.duration is not None:
        changes["frames"] = max(1, round(request.duration * FPS))
    elif request.frames is None and task != "v2v":
        changes["frames"] = MOST_FRAMES
    notes = [
        Note("FIELD_IGNORED", f"`{name}` means nothing to task `{task}`, so it was ignored")
        for name, tasks in ONLY_OF.items()
        if name in request.model_fields_set and task not in tasks
    ]
    if request.negative_prompt and not guided:
        text = "`negative_prompt` is read under guidance, which `guidance: 1` turns off, so it was ignored"
        notes.append(Note("FIELD_IGNORED", text))
    if task == "v2v" and request.strength and not steps_run(changes["steps"], request.strength):
        notes.append(Note("NO_STEPS", _no_steps(request.strength, changes["steps"])))
    if request.fps != FPS:
        speed = f"at {request.fps:g} frames a second motion is {request.fps / FPS:.3g} times as fast as it was made"
        notes.append(Note("SPEED_CHANGED", speed))
    return request.model_copy(update=changes), tuple(notes)


def sized(
    request: GenerateRequest, model: Model, source: MediaInfo | None, loras: Sequence[Lora]
) -> tuple[GenerateRequest, tuple[Note, ...]]:
    """The settled request with its size, frames and shift for this source. Raises InvalidInput."""
    notes: list[Note] = []
    width, height = request.dims or (SIZE_720P if is_720p(model) else SIZE_480P)
    frames = request.frames
    if source is not None:
        if request.fit == "keep":
            width, height = _kept(request, source, width * height)
        elif source.sample_aspect_ratio != 1:
            text = f"the source's pixels are {source.sample_aspect_ratio} as wide as high"
            notes.append(Note("ASPECT_RATIO_LOST", f"{text}, and `fit: {request.fit}` takes them for square"))
        if source.raster.colour.hdr:
            notes.append(Note("HDR_IGNORED", "the source is HDR and was taken for SDR: it will look flat and dim"))
    if request.kind == "v2v" and source is not None:
        frames = _frames(request, source, notes)
    shift = request.shift or _first([lora.shift for lora in loras]) or (3.0 if width * height < MEAN_AREA else 5.0)
    changes = {"width": width, "height": height, "size": None, "frames": frames, "duration": None, "shift": shift}
    return request.model_copy(update=changes), tuple(notes)


def is_720p(model: Model) -> bool:
    """Nothing in such a checkpoint tells; its name does."""
    return "720p" in f"{model.name} {model.architecture}".casefold()


def aspect_kept(aspect: Fraction, area: int) -> tuple[int, int]:
    """Width and height of about `area` pixels at `aspect` (height / width), as upstream rounds it (image2video.py).

    Each edge is a multiple of 16, rounded down from the exact one; what would be nothing becomes 16.
    """
    high, wide = (isqrt(int(area * ratio / 64)) // 2 for ratio in (aspect, 1 / aspect))
    return max(wide, 1) * WAN_STEP, max(high, 1) * WAN_STEP


def _kept(request: GenerateRequest, source: MediaInfo, area: int) -> tuple[int, int]:
    across, down = source.raster.width * source.sample_aspect_ratio, source.raster.height
    size = aspect_kept(down / Fraction(across), area)
    if max(size) > MAX_EDGE:
        text = (
            f"is {source.raster.width}x{source.raster.height}: keeping that aspect would make "
            f"{size[0]}x{size[1]}, and an edge may have {MAX_EDGE}; `fit` crop or pad gives exactly the size"
        )
        raise InvalidInput([Problem(source_field(request), text)])
    return size


def _no_steps(strength: float, steps: int) -> str:
    least = -(-1000 // steps) / 1000  # of those in thousandths
    what = f"strength {strength:g} of {steps} steps leaves none: the video is only encoded and decoded"
    return f"{what}; from {least:g} on it changes"


def _frames(request: GenerateRequest, source: MediaInfo, notes: list[Note]) -> int:
    """How many of the video's frames at the model's rate are used. Raises InvalidInput for more than there are."""
    there = max(1, round(source.duration * FPS))
    if request.frames is None:
        if there > MOST_FRAMES:
            text = f"the video has {there} frames at {FPS} a second, of which the first {MOST_FRAMES} were used"
            notes.append(Note("SOURCE_CUT", f"{text}; `frames` asks for more"))
        return min(there, MOST_FRAMES)
    if request.frames > there:
        field = "frames" if request.duration is None else "duration"
        text = f"asks for {request.frames} frames, and the video has {there} at the model's {FPS} a second"
        raise InvalidInput([Problem(field, f"{text}: ask for at most that, or leave it out")])
    return request.frames


def source_field(request: GenerateRequest) -> str:
    """The field that the source was given by; "" where there is none."""
    fields = ("image", "image_base64", "video", "video_base64")
    return next((name for name in fields if getattr(request, name) is not None), "")


def _first(values: Sequence[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)
