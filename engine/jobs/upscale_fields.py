"""How a source is restored and enlarged: docs/fields.md's section Upscale.

One declaration per field is the only source of its name, its aliases, its default, its bounds and its description.
A default of None means "not given"; `x-default` says what is done then.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic.config import JsonDict

from engine.jobs.fields import MAX_SEED, Clash
from engine.jobs.model_field import ModelField

Auto = Literal["auto"]
ShortEdge = Literal["480p", "720p", "1080p", "1440p", "2160p", "4k", "8k"]
SHORT_EDGES: dict[ShortEdge, int] = {
    "480p": 480, "720p": 720, "1080p": 1080, "1440p": 1440, "2160p": 2160, "4k": 2160, "8k": 4320,
}  # fmt: skip
MAX_EDGE = 32_768
MAX_BATCH = 1_000_000  # more than any memory holds: the plan is what caps it
VAE_TILES = {"low": 512, "medium": 768, "high": 1024}  # pixels; neighbours share an eighth
EDGE: JsonDict = {
    "anyOf": [
        {"type": "integer", "minimum": 16, "maximum": MAX_EDGE},
        {"type": "string", "pattern": "^[0-9]{1,9}$"},
        {"type": "null"},
    ]
}


OF_FAMILY = {  # fields that mean something to one family of models alone
    "seedvr2": frozenset(
        {
            "temporal_overlap",
            "temporal",
            "uniform_batch_size",
            "prepend_frames",
            "input_noise_scale",
            "latent_noise_scale",
            "color_correction",
            "vae_tiling",
            "vae_quality",
            "vae_tile_size",
            "vae_tile_overlap",
        }
    ),
    "esrgan": frozenset({"denoise_strength", "tile", "tile_pad"}),
}
OF_MIXED = frozenset({"denoise_strength"})  # of those, what only a model mixed from two checkpoints knows


def foreign_fields(family: str, mixed: bool = False) -> frozenset[str]:
    """Fields that a model of `family` does not know; `mixed` is one made of two checkpoints."""
    own = OF_FAMILY.get(family, frozenset()) - (frozenset() if mixed else OF_MIXED)
    return frozenset().union(*OF_FAMILY.values()) - own


class UpscaleFields(ModelField):
    """Upscale"""

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
    batch_size: Auto | Annotated[int, Field(ge=1, le=MAX_BATCH)] = Field(
        "auto",
        description="frames per pass, a ceiling; SeedVR2 rounds it down to 4n+1 and says so; `auto` goes by memory",
    )
    temporal_overlap: Auto | Annotated[int, Field(ge=0, le=1024)] = Field(
        "auto",
        description="SeedVR2: frames shared and blended between passes, less than `batch_size`; over half of it is "
        "reduced to half",
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
    vae_tiling: Literal["auto", "on", "off"] = Field(
        "auto", description="SeedVR2: encode and decode in tiles; `auto` by memory"
    )
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
        json_schema_extra={"x-default": "an eighth of the tile"},
        description="SeedVR2: pixels, less than the tile",
    )
    denoise_strength: float = Field(
        0.5, ge=0, le=1, description="realesr-general-x4v3 only: mixes its two checkpoints; 1 denoises most"
    )
    tile: Auto | Annotated[int, Field(ge=0, le=8192)] = Field(
        "auto", description="Real-ESRGAN: pixels of a tile's edge; 0 = whole frames, `auto` by memory"
    )
    tile_pad: int = Field(10, ge=0, le=256, description="Real-ESRGAN: pixels of surroundings that each tile sees")

    @field_validator("resolution", "height", "width", mode="before")
    @classmethod
    def _digits(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII) else value

    @property
    def short_edge(self) -> int | None:
        """`resolution` in pixels."""
        return self.resolution if isinstance(self.resolution, int | None) else SHORT_EDGES[self.resolution]

    @property
    def vae_tiles(self) -> tuple[int, int]:
        """Edge and overlap of the autoencoder's tiles, in pixels of the result."""
        tile = VAE_TILES[self.vae_quality] if self.vae_tile_size is None else self.vae_tile_size
        return tile, tile // 8 if self.vae_tile_overlap is None else self.vae_tile_overlap

    def clashes(self) -> Iterator[Clash]:
        yield from super().clashes()
        if 0 < self.max_edge < 16:
            yield Clash(("max_edge",), f"must be 0 for none, or from 16 to {MAX_EDGE}, not {self.max_edge}")
        if isinstance(self.tile, int) and 0 < self.tile < 32:
            yield Clash(("tile",), f"must be 0 for whole frames, or from 32 to 8192, not {self.tile}")
        tile, shared = self.vae_tiles
        if shared >= tile:
            whose = "vae_tile_size" if self.vae_tile_size is not None else "vae_quality"
            text = f"must be less than the tile, which is {tile} pixels by {{{whose}}}"
            yield Clash(("vae_tile_overlap", whose), text)
        match self.batch_size, self.temporal_overlap:
            case int(batch), int(overlap) if overlap >= batch:
                yield Clash(("temporal_overlap", "batch_size"), f"must be less than {{batch_size}}, which is {batch}")
