"""What a job says about its source: docs/fields.md's section Source.

One declaration per field is the only source of its name, its aliases, its default, its bounds and its description.
A default of None means "not given"; `x-default` says what is done then.
"""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import AliasChoices, Field, field_validator

from engine.jobs.fields import Clash, Fields, wrong

MAX_FRAMES = 1_000_000

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}):")


def checked_address(value: object) -> object:
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

    _check_source = field_validator("source", mode="before")(checked_address)

    def clashes(self) -> Iterator[Clash]:
        yield from super().clashes()
        if self.source is None and self.source_base64 is None:
            yield Clash(("source", "source_base64"), "is required: the address of a video or an image")
        if self.source is not None and self.source_base64 is not None:
            yield Clash(("source", "source_base64"), "is given besides {source_base64}: give one of them")
        if self.start is not None and self.end is not None and self.start >= self.end:
            yield Clash(("start", "end"), f"must be before {{end}}, but {self.start:g} is not before {self.end:g}")
        if self.start is not None and self.skip_frames:
            yield Clash(("start", "skip_frames"), "says where to begin, and so does {skip_frames}: give one of them")
        if self.end is not None and self.max_frames:
            yield Clash(("end", "max_frames"), "says where to stop, and so does {max_frames}: give one of them")
