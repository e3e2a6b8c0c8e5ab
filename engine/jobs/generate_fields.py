"""What video is made from a prompt: docs/fields.md's section Generate.

One declaration per field is the only source of its name, its aliases, its default, its bounds and its description.
A default of None means "not given"; `x-default` says what is done then.
"""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import AliasChoices, Field, field_validator

from engine.jobs.fields import MAX_SEED, Clash, Fields, wrong
from engine.jobs.model_field import ModelField
from engine.jobs.source_fields import checked_address
from engine.jobs.upscale_fields import UpscaleFields
from engine.jobs.wording import brief
from engine.pipelines.wan.limits import FPS, MOST_FRAMES

WAN_STEP = 16
MAX_EDGE = 4096
MOST_PROMPT = 50_000  # characters: far more than the 512 tokens that are read, for what is too long is cut, not refused
MOST_LORAS = 8

_SIZE = re.compile(r"(\d{1,5}) ?[*x×] ?(\d{1,5})")


class LoraField(Fields):
    """A LoRA and how strongly it is applied."""

    name: str = Field(min_length=1, max_length=200, description="catalog name or published file name")
    strength: float = Field(1.0, ge=-4, le=4, description="1 is as trained, 0 is not at all")


class GenerateFields(ModelField):
    """Generate"""

    task: Literal["t2v", "i2v", "v2v"] | None = Field(
        None,
        json_schema_extra={"x-default": "from what is given"},
        description="text, image or video to video",
    )
    prompt: str = Field(
        "", max_length=MOST_PROMPT, description="required for t2v; counted in tokens: what is over 512 is cut, and said"
    )
    negative_prompt: str | None = Field(
        None,
        max_length=MOST_PROMPT,
        json_schema_extra={"x-default": "the model's own"},
        description='`""` means none',
    )
    image: str | None = Field(
        None,
        validation_alias=AliasChoices("image_url"),
        repr=False,
        description="i2v: the first frame; an address as for `source`. Alpha is laid on black",
    )
    image_base64: str | None = Field(None, min_length=1, repr=False, description="i2v: the first frame itself")
    video: str | None = Field(
        None,
        validation_alias=AliasChoices("video_url"),
        repr=False,
        description=f"v2v: the video to begin from, taken at {FPS} frames a second; an address as for `source`",
    )
    video_base64: str | None = Field(None, min_length=1, repr=False, description="v2v: the video itself")
    frames: int | None = Field(
        None,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("num_frames", "length", "frame_num"),
        json_schema_extra={"x-default": f"{MOST_FRAMES}; v2v: what the video has, at most {MOST_FRAMES}"},
        description="the model makes 4n+1; what is too much is cut, so that you get exactly this. One frame is written "
        f"as png unless `output_format` says otherwise; more than {MOST_FRAMES} are made in windows that overlap",
    )
    duration: float | None = Field(
        None,
        gt=0,
        le=60,
        validation_alias=AliasChoices("duration_seconds"),
        description=f"seconds at the model's {FPS} fps; instead of `frames`",
    )
    fps: float = Field(
        FPS, ge=1, le=120, description=f"of the written file; another rate than {FPS} changes the speed of motion"
    )
    width: int | None = Field(
        None,
        ge=WAN_STEP,
        le=MAX_EDGE,
        multiple_of=WAN_STEP,
        json_schema_extra={"x-default": "832, or 1280 for 720P models", "x-rule": "a multiple of 16 up to 4096"},
        description="together with `height`; i2v and v2v keep the source's aspect at this area",
    )
    height: int | None = Field(
        None,
        ge=WAN_STEP,
        le=MAX_EDGE,
        multiple_of=WAN_STEP,
        json_schema_extra={"x-default": "480, or 720 for 720P models", "x-rule": "a multiple of 16 up to 4096"},
        description="together with `width`",
    )
    size: str | None = Field(
        None,
        json_schema_extra={"x-rule": '"width*height", both multiples of 16 up to 4096, such as "832*480"'},
        description="instead of `width` and `height`",
    )
    fit: Literal["keep", "crop", "pad"] = Field(
        "keep", description="i2v, v2v: `keep` the source's aspect, or `crop` or `pad` it to exactly the size"
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=100,
        validation_alias=AliasChoices("num_inference_steps", "sample_steps"),
        json_schema_extra={"x-default": "50 (i2v 40), or what a LoRA is made for"},
        description="denoising steps",
    )
    guidance: float | None = Field(
        None,
        ge=1,
        le=20,
        validation_alias=AliasChoices("guidance_scale", "cfg", "sample_guide_scale"),
        json_schema_extra={"x-default": "5, or what a LoRA is made for"},
        description="how closely the prompt is followed; 1 turns guidance off and halves the work",
    )
    shift: float | None = Field(
        None,
        ge=0.01,
        le=100,
        validation_alias=AliasChoices("flow_shift", "sample_shift"),
        json_schema_extra={"x-default": "by size: 3 for 480P, 5 for 720P; or what a LoRA is made for"},
        description="of the schedule, towards noise",
    )
    solver: Literal["unipc", "dpm++", "euler"] | None = Field(
        None,
        validation_alias=AliasChoices("sample_solver"),
        json_schema_extra={"x-default": "`unipc`, or what a LoRA is made for"},
        description="how the steps are taken",
    )
    seed: int = Field(-1, ge=-1, le=MAX_SEED, description="-1 draws one; the seed used is always reported")
    strength: float = Field(0.8, ge=0, le=1, description="v2v: share of the schedule that is run")
    loras: tuple[LoraField, ...] = Field(
        (),
        max_length=MOST_LORAS,
        json_schema_extra={"x-rule": f'a list of at most {MOST_LORAS} objects `{{"name", "strength"}}`, -4 to 4'},
        description="LoRA files of this worker, merged for this job; `info` lists them. `strength` is 1 unless given",
    )
    upscale: UpscaleFields | None = Field(
        None, description="the fields of Upscale: the result is enlarged in the same job"
    )

    _check_addresses = field_validator("image", "video", mode="before")(checked_address)

    @field_validator("width", "height", mode="before")
    @classmethod
    def _edge(cls, value: object) -> object:
        if isinstance(value, int) and WAN_STEP <= value <= MAX_EDGE and value % WAN_STEP:
            raise wrong(f"must be a multiple of {WAN_STEP} up to {MAX_EDGE}, not {value}: {_neighbours(value)} are")
        return value

    @field_validator("size")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is None:
            return None
        edges = _edges(value) if _SIZE.fullmatch(value) else ()
        if not edges or not all(WAN_STEP <= edge <= MAX_EDGE for edge in edges):
            raise ValueError
        for edge in edges:
            if edge % WAN_STEP:
                text = f"must be multiples of {WAN_STEP} up to {MAX_EDGE}, which {edge} is not: {_neighbours(edge)} are"
                raise wrong(text)
        return value

    @property
    def dims(self) -> tuple[int, int] | None:
        """(width, height) as asked for, however it was written."""
        if self.size is not None:
            return _edges(self.size)
        return (self.width, self.height) if self.width and self.height else None

    @property
    def kind(self) -> Literal["t2v", "i2v", "v2v"]:
        """`task`, or what follows from what is given."""
        if self.task is not None:
            return self.task
        if self.image is not None or self.image_base64 is not None:
            return "i2v"
        return "t2v" if self.video is None and self.video_base64 is None else "v2v"

    def clashes(self) -> Iterator[Clash]:
        yield from super().clashes()
        yield from self._source_clashes()
        yield from self._size_clashes()
        if self.kind == "t2v" and not self.prompt.strip():
            yield Clash(("prompt", "task"), "is required to make a video from text")
        if self.frames is not None and self.duration is not None:
            yield Clash(("duration", "frames"), "is given besides {frames}: give one of them")
        for name in {lora.name for lora in self.loras if sum(lora.name == other.name for other in self.loras) > 1}:
            yield Clash(("loras",), f"names `{brief(name)}` more than once")

    def _source_clashes(self) -> Iterator[Clash]:
        images = [name for name in ("image", "image_base64") if getattr(self, name) is not None]
        videos = [name for name in ("video", "video_base64") if getattr(self, name) is not None]
        for given in (images, videos):
            if len(given) == 2:
                yield Clash((given[0], given[1]), f"is given besides {{{given[1]}}}: give one of them")
        if images and videos:
            yield Clash((images[0], videos[0]), f"is given besides {{{videos[0]}}}: begin from one of them")
        elif self.task == "t2v" and (images or videos):
            yield Clash(((images + videos)[0], "task"), "does not go with task `t2v`, which begins from text alone")
        elif self.task == "i2v" and not images:
            yield Clash(("image", "image_base64", "task"), "is required for task `i2v`: the address of an image")
        elif self.task == "v2v" and not videos:
            yield Clash(("video", "video_base64", "task"), "is required for task `v2v`: the address of a video")

    def _size_clashes(self) -> Iterator[Clash]:
        if self.size is not None and (self.width or self.height):
            if (self.width, self.height) != _edges(self.size):
                yield Clash(("size", "width", "height"), "is given besides {width} and {height}: give one or the other")
        elif (self.width is None) != (self.height is None):
            one, other = ("width", "height") if self.height is None else ("height", "width")
            yield Clash((one, other), f"needs {{{other}}} beside it")


def _edges(size: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(size)
    assert found
    return int(found[1]), int(found[2])


def _neighbours(edge: int) -> str:
    """The two nearest edges that the model can make."""
    below = edge // WAN_STEP * WAN_STEP
    return f"{below} and {below + WAN_STEP}"
