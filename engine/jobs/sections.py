"""The fields of a job's input, in the sections of the README: source, upscale, generate, output, run.

One declaration per field is the only source of its name, its aliases, its default, its bounds and its description.
A default of None means "not given"; `x-default` says what is done then.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic.config import JsonDict

from engine.jobs.fields import Clash, Fields, wrong

Auto = Literal["auto"]
ShortEdge = Literal["480p", "720p", "1080p", "1440p", "2160p", "4k", "8k"]
SHORT_EDGES: dict[ShortEdge, int] = {
    "480p": 480, "720p": 720, "1080p": 1080, "1440p": 1440, "2160p": 2160, "4k": 2160, "8k": 4320,
}  # fmt: skip
MAX_EDGE = 32_768
EDGE: JsonDict = {
    "anyOf": [
        {"type": "integer", "minimum": 16, "maximum": MAX_EDGE},
        {"type": "string", "pattern": "^[0-9]{1,9}$"},
        {"type": "null"},
    ]
}
MAX_SEED = 2**53 - 1  # the largest whole number that every JSON reader keeps exactly
MAX_FRAMES = 1_000_000
WAN_STEP = 16

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}):")
_SIZE = re.compile(r"(\d{1,5}) ?[*x×] ?(\d{1,5})")


def _address(value: object) -> object:
    """Refuse what no transport of ours reads; which hosts and folders are allowed is the storage's matter."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise wrong("is empty; give an https, http, s3, gs or data address, or a path on the volume")
    if any(ord(c) < 32 or ord(c) == 127 for c in value[:4096]):
        raise wrong("holds control characters; give the address on one line")
    scheme = _SCHEME.match(value)
    if scheme and len(scheme[1]) > 1 and scheme[1].lower() not in ("https", "http", "s3", "gs", "data"):
        raise wrong(f"`{scheme[1].lower()}:` is not an address we read; https, http, s3, gs and data are")
    return value


class SourceFields(Fields):
    """Source"""

    source: str | None = Field(
        None,
        validation_alias=AliasChoices(
            "video", "image", "file", "url", "video_url", "image_url", "source_video_url", "input_url"
        ),
        repr=False,
        description="`https://`, `http://`, `s3://bucket/key`, `gs://bucket/key`, `data:<type>;base64,...`, or a path "
        "on the volume (in local mode: under the working folder). This or `source_base64` is required",
    )
    source_base64: str | None = Field(
        None,
        min_length=1,
        validation_alias=AliasChoices("video_base64", "image_base64", "source_video_base64"),
        repr=False,
        description="the file itself as base64, within the platform's limit of 10 MB (20 MB for runsync)",
    )
    media: Literal["auto", "video", "image"] = Field(
        "auto", validation_alias=AliasChoices("type"), description="what the file must be; refused when it is not"
    )
    start: float | None = Field(
        None, ge=0, json_schema_extra={"x-default": "the beginning"}, description="first second of the source to use"
    )
    end: float | None = Field(
        None, gt=0, json_schema_extra={"x-default": "the end"}, description="second of the source to stop at"
    )
    skip_frames: int = Field(
        0,
        ge=0,
        le=MAX_FRAMES,
        validation_alias=AliasChoices("skip_first_frames"),
        description="frames left out at the beginning; instead of `start`",
    )
    max_frames: int = Field(
        0,
        ge=0,
        le=MAX_FRAMES,
        validation_alias=AliasChoices("load_cap"),
        description="most frames to use, 0 = all; instead of `end`",
    )
    allow_partial: bool = Field(
        False, description="a source that breaks in the middle gives what was good before, with a warning"
    )

    _check_source = field_validator("source", mode="before")(_address)

    def clashes(self) -> Iterator[Clash]:
        yield from super().clashes()
        if self.source is None and self.source_base64 is None:
            yield Clash(("source", "source_base64"), "is required: the address of a video or an image")
        if self.source is not None and self.source_base64 is not None:
            yield Clash(("source", "source_base64"), "is given besides {source_base64}: give one of them")
        if self.start is not None and self.end is not None and self.start >= self.end:
            yield Clash(("start", "end"), f"must be before {{end}}, but {self.start} is not before {self.end}")
        if self.start is not None and self.skip_frames:
            yield Clash(("start", "skip_frames"), "says where to begin, and so does {skip_frames}: give one of them")
        if self.end is not None and self.max_frames:
            yield Clash(("end", "max_frames"), "says where to stop, and so does {max_frames}: give one of them")


class UpscaleFields(Fields):
    """Upscale"""

    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        validation_alias=AliasChoices("dit_model", "model_name", "model_id"),
        json_schema_extra={"x-default": "the worker's first"},
        description="catalog name or published file name, with or without suffix",
    )
    resolution: ShortEdge | Annotated[int, Field(ge=16, le=MAX_EDGE)] | None = Field(
        None,
        validation_alias=AliasChoices("target_resolution", "short_edge"),
        json_schema_extra={"x-default": "1080 for SeedVR2"},
        description="pixels of the short edge, aspect kept",
    )
    height: int | None = Field(
        None,
        ge=16,
        le=MAX_EDGE,
        validation_alias=AliasChoices("res_h"),
        json_schema_extra=EDGE,
        description="with `width`: a box to fit inside, aspect kept; alone: that edge, aspect kept. Digits in a text "
        "are allowed",
    )
    width: int | None = Field(
        None,
        ge=16,
        le=MAX_EDGE,
        validation_alias=AliasChoices("res_w"),
        json_schema_extra=EDGE,
        description="see `height`",
    )
    output_dims: tuple[Annotated[int, Field(ge=1, le=MAX_EDGE)], Annotated[int, Field(ge=1, le=MAX_EDGE)]] | None = (
        Field(
            None,
            json_schema_extra={"x-rule": f"[width, height], two whole numbers from 1 to {MAX_EDGE}"},
            description="exactly this size, aspect not kept",
        )
    )
    outscale: float | None = Field(
        None,
        gt=0,
        le=32,
        validation_alias=AliasChoices("upscale_factor", "scale", "sr_ratio"),
        json_schema_extra={"x-default": "the model's own for Real-ESRGAN"},
        description="factor; the model runs at its own scale, then a resize",
    )
    output_magnification: float | None = Field(
        None,
        gt=0,
        le=32,
        description="final size as a multiple of the source; wins over `outscale` for the final size",
    )
    max_edge: int = Field(
        0,
        ge=0,
        le=MAX_EDGE,
        validation_alias=AliasChoices("max_resolution"),
        description="cap on the long edge, aspect kept; 0 = none",
    )
    batch_size: Auto | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="frames per pass, a ceiling; SeedVR2 rounds it to 4n+1 and says so; `auto` goes by memory"
    )
    temporal_overlap: Auto | Annotated[int, Field(ge=0, le=1024)] = Field(
        "auto", description="frames shared and blended between passes"
    )
    temporal: bool = Field(True, description="SeedVR2: `false` restores every frame by itself")
    uniform_batch_size: bool = Field(False, description="SeedVR2: fill the last pass up to the size of the others")
    prepend_frames: int = Field(0, ge=0, le=64, description="SeedVR2: mirrored frames put before the first")
    input_noise_scale: float = Field(0, ge=0, le=1, description="SeedVR2: noise added to the source")
    latent_noise_scale: float = Field(0, ge=0, le=1, description="SeedVR2: noise added to the latent")
    color_correction: Literal["lab", "wavelet", "wavelet_adaptive", "hsv", "adain", "none"] = Field(
        "lab", validation_alias=AliasChoices("color_fix"), description="SeedVR2: how the source's colours are kept"
    )
    seed: int = Field(42, ge=0, le=MAX_SEED, description="the same seed gives the same result")
    strength: float = Field(1.0, ge=0, le=1, description="how much of the restoration, blended over the plain resize")
    vae_tiling: Literal["auto", "on", "off"] = Field("auto", description="SeedVR2: decode in tiles; `auto` by memory")
    vae_quality: Literal["low", "medium", "high"] = Field(
        "high", description="SeedVR2: tile/overlap of 512/64, 768/96 or 1024/128 pixels"
    )
    vae_tile_size: int | None = Field(
        None,
        ge=64,
        le=8192,
        validation_alias=AliasChoices("vae_encode_tile_size", "vae_decode_tile_size"),
        json_schema_extra={"x-default": "from `vae_quality`"},
        description="SeedVR2: pixels",
    )
    vae_tile_overlap: int | None = Field(
        None,
        ge=0,
        le=4096,
        validation_alias=AliasChoices("vae_encode_tile_overlap", "vae_decode_tile_overlap"),
        json_schema_extra={"x-default": "from `vae_quality`"},
        description="SeedVR2: pixels, less than the tile",
    )
    denoise_strength: float = Field(
        0.5, ge=0, le=1, description="realesr-general-x4v3 only: mixes its two checkpoints; 1 denoises most"
    )
    tile: Auto | Annotated[int, Field(ge=0, le=8192)] = Field(
        "auto", description="Real-ESRGAN: pixels of a tile's edge; 0 = whole frames, `auto` by memory"
    )
    tile_pad: int = Field(10, ge=0, le=256, description="Real-ESRGAN: pixels of surroundings that each tile sees")

    @field_validator("height", "width", mode="before")
    @classmethod
    def _digits(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII) else value

    @property
    def short_edge(self) -> int | None:
        """`resolution` in pixels."""
        return self.resolution if isinstance(self.resolution, int | None) else SHORT_EDGES[self.resolution]

    def clashes(self) -> Iterator[Clash]:
        yield from super().clashes()
        if 0 < self.max_edge < 16:
            yield Clash(("max_edge",), f"must be 0 for none, or from 16 to {MAX_EDGE}, not {self.max_edge}")
        if isinstance(self.tile, int) and 0 < self.tile < 32:
            yield Clash(("tile",), f"must be 0 for whole frames, or from 32 to 8192, not {self.tile}")
        if self.vae_tile_size and self.vae_tile_overlap is not None and self.vae_tile_overlap >= self.vae_tile_size:
            yield Clash(("vae_tile_overlap", "vae_tile_size"), "must be less than {vae_tile_size}")
        match self.batch_size, self.temporal_overlap:
            case int(batch), int(overlap) if overlap >= batch:
                yield Clash(("temporal_overlap", "batch_size"), f"must be less than {{batch_size}}, which is {batch}")


class GenerateFields(Fields):
    """Generate"""

    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        validation_alias=AliasChoices("dit_model", "model_name", "model_id"),
        json_schema_extra={"x-default": "the worker's first"},
        description="catalog name or published file name, with or without suffix",
    )
    task: Literal["t2v", "i2v", "v2v"] | None = Field(
        None,
        json_schema_extra={"x-default": "from what is given"},
        description="text, image or video to video",
    )
    prompt: str = Field(
        "", max_length=20_000, description="required for t2v; counted in tokens: what is over 512 is cut, and said"
    )
    negative_prompt: str | None = Field(
        None,
        max_length=20_000,
        json_schema_extra={"x-default": "the model's own"},
        description='`""` means none',
    )
    image: str | None = Field(
        None,
        validation_alias=AliasChoices("image_url"),
        repr=False,
        description="i2v: the first frame; an address as for `source`",
    )
    image_base64: str | None = Field(None, min_length=1, repr=False, description="i2v: the first frame itself")
    video: str | None = Field(
        None,
        validation_alias=AliasChoices("video_url"),
        repr=False,
        description="v2v: the video to begin from; an address as for `source`",
    )
    video_base64: str | None = Field(None, min_length=1, repr=False, description="v2v: the video itself")
    frames: int | None = Field(
        None,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("num_frames", "length", "frame_num"),
        json_schema_extra={"x-default": "81"},
        description="the model makes 4n+1; what is too much is cut, so that you get exactly this",
    )
    duration: float | None = Field(
        None,
        gt=0,
        le=60,
        validation_alias=AliasChoices("duration_seconds"),
        description="seconds at the model's 16 fps; instead of `frames`",
    )
    fps: float = Field(
        16, ge=1, le=120, description="of the written file; another rate than 16 changes the speed of motion"
    )
    width: int | None = Field(
        None,
        ge=WAN_STEP,
        le=4096,
        multiple_of=WAN_STEP,
        json_schema_extra={"x-default": "832, or 1280 for 720P models", "x-rule": "a multiple of 16 up to 4096"},
        description="together with `height`; i2v keeps the image's aspect at this area",
    )
    height: int | None = Field(
        None,
        ge=WAN_STEP,
        le=4096,
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
        "keep", description="i2v: `keep` the image's aspect, or `crop` or `pad` it to exactly the size"
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=100,
        validation_alias=AliasChoices("num_inference_steps", "sample_steps"),
        json_schema_extra={"x-default": "50 (i2v 40)"},
        description="denoising steps",
    )
    guidance: float = Field(
        5.0,
        ge=1,
        le=20,
        validation_alias=AliasChoices("guidance_scale", "cfg", "sample_guide_scale"),
        description="how closely the prompt is followed; 1 turns guidance off and halves the work",
    )
    shift: float | None = Field(
        None,
        gt=0,
        le=100,
        validation_alias=AliasChoices("flow_shift", "sample_shift"),
        json_schema_extra={"x-default": "by size: 3 for 480P, 5 for 720P"},
        description="of the schedule, towards noise",
    )
    solver: Literal["unipc", "dpm++", "euler"] = Field(
        "unipc", validation_alias=AliasChoices("sample_solver"), description="how the steps are taken"
    )
    seed: int = Field(-1, ge=-1, le=MAX_SEED, description="-1 draws one; the seed used is always reported")
    strength: float = Field(0.8, ge=0, le=1, description="v2v: share of the schedule that is run")
    upscale: UpscaleFields | None = Field(
        None, description="the fields of Upscale: the result is enlarged in the same job"
    )

    _check_addresses = field_validator("image", "video", mode="before")(_address)

    @field_validator("size")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None and not (_SIZE.fullmatch(value) and all(_edge_fits(edge) for edge in _edges(value))):
            raise ValueError
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


def _edge_fits(edge: int) -> bool:
    return WAN_STEP <= edge <= 4096 and edge % WAN_STEP == 0
