"""The fields that say what is written and where to: docs/fields.md's sections Output and Run."""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator

from engine.jobs.fields import Clash, Fields, wrong
from engine.jobs.spellings import usual_codec, usual_format

IMAGES = ("png", "jpg", "webp")


class BucketDestination(Fields):
    """A bucket that the worker's own credentials, or the job's `s3_config`, can write to."""

    bucket: str = Field(repr=False, description="`s3://bucket/prefix` or `gs://bucket/prefix`")
    key: str | None = Field(None, description="the object's key; else made from the job's id and the file name")

    @field_validator("bucket")
    @classmethod
    def _bucket(cls, value: str) -> str:
        if not re.match(r"(s3|gs)://[^/\s]", value):
            raise wrong("must begin with s3://bucket or gs://bucket")
        _refuse_climbing(value.split("://", 1)[1])
        return value

    @field_validator("key")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        if value is not None:
            if not value or value.startswith("/") or value.endswith("/"):
                raise wrong("must name an object: not empty, and without a slash at either end")
            _refuse_climbing(value)
        return value


class PutDestination(Fields):
    """A presigned address that takes one HTTP PUT."""

    put_url: str = Field(repr=False, description="presigned")

    @field_validator("put_url")
    @classmethod
    def _put_url(cls, value: str) -> str:
        if not re.match(r"https?://[^/\s]", value):
            raise wrong("must be an https:// address that takes a PUT")
        return value


class VolumeDestination(Fields):
    """A folder of the mounted volume."""

    volume: str = Field(min_length=1, description="a folder on the volume")

    @field_validator("volume")
    @classmethod
    def _volume(cls, value: str) -> str:
        _refuse_climbing(value)
        return value


class S3Config(Fields):
    """RunPod's `s3Config`: the bucket of this one job."""

    access_id: SecretStr = Field(
        min_length=1,
        repr=False,
        validation_alias=AliasChoices("accessId"),
        description="`accessId`, the key that may write to the bucket",
    )
    access_secret: SecretStr = Field(
        min_length=1,
        repr=False,
        validation_alias=AliasChoices("accessSecret"),
        description="`accessSecret`, the secret of that key",
    )
    bucket_name: str | None = Field(None, min_length=1, max_length=255, validation_alias=AliasChoices("bucketName"))
    endpoint_url: str | None = Field(None, repr=False, validation_alias=AliasChoices("endpointUrl"))

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"https?://[^/\s]", value):
            raise wrong("must be an https:// address")
        return value


Destination = BucketDestination | PutDestination | VolumeDestination | Literal["inline"]


class OutputFields(Fields):
    """Output"""

    output_format: Literal["mp4", "mov", "mkv", "webm", "gif", "png", "jpg", "webp", "png_sequence"] | None = Field(
        None,
        validation_alias=AliasChoices("container", "format"),
        json_schema_extra={"x-default": "`mp4`; `png` for an image"},
        description="`png_sequence` is a zip",
    )
    codec: Literal["h264", "hevc", "av1", "vp9", "prores"] | None = Field(
        None, json_schema_extra={"x-default": "`h264`; `vp9` in webm"}, description="of the video"
    )
    crf: int = Field(16, ge=0, le=51, description="quality on x264's scale whatever the codec, lower is better")
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"] = (
        Field("medium", description="the encoder's speed")
    )
    bit_depth: Literal[8, 10] = Field(8, description="10 is real: from float, dithered")
    audio: Literal["keep", "drop"] = Field(
        "keep", description="`keep` copies every track where the container allows, else AAC or Opus"
    )
    filename: str | None = Field(
        None,
        json_schema_extra={"x-default": "made from the source's name and the job's values"},
        description="no path parts",
    )
    destination: Destination | None = Field(
        None,
        repr=False,
        json_schema_extra={
            "x-default": "the worker's bucket",
            "x-rule": '`{"bucket": "s3://..." or "gs://...", "key"}`, `{"put_url": presigned}`, `{"volume": path}` or '
            '`"inline"`',
        },
        description="where the result goes; `inline` is base64 in the reply, at most 5 MB",
    )
    s3_config: S3Config | None = Field(
        None,
        validation_alias=AliasChoices("s3Config"),
        repr=False,
        json_schema_extra={"x-rule": "an object with `accessId`, `accessSecret`, `bucketName` and `endpointUrl`"},
        description="the bucket of this job, as RunPod names it; stands beside `input`",
    )
    url_expires_s: int | None = Field(
        None, ge=60, le=604_800, json_schema_extra={"x-default": "7 days"}, description="life of the presigned link"
    )
    timeout_s: float | None = Field(
        None,
        gt=0,
        le=604_800,
        json_schema_extra={"x-default": "none"},
        description="the job stops itself, cleanly, when it is reached",
    )
    dry_run: bool = Field(False, description="only plan, as `action: estimate` does")

    _usual_format = field_validator("output_format", mode="before")(usual_format)
    _usual_codec = field_validator("codec", mode="before")(usual_codec)

    @field_validator("filename")
    @classmethod
    def _filename(cls, value: str | None) -> str | None:
        if value is not None and (value.strip(". ") == "" or re.search(r'[\x00-\x1f\x7f/\\:*?"<>|]', value)):
            raise wrong("must be a plain file name without path parts")
        if value is not None and len(value.encode(errors="replace")) > 200:
            raise wrong("must be at most 200 bytes long")
        return value

    def clashes(self) -> Iterator[Clash]:
        yield from super().clashes()
        if self.codec is not None and self.output_format in (*IMAGES, "gif", "png_sequence"):
            yield Clash(("codec", "output_format"), f"does not go with {{output_format}} `{self.output_format}`")


def _refuse_climbing(path: str) -> None:
    if ".." in path.split("/") or re.search(r"[\x00-\x1f\x7f\\]", path):
        raise wrong("must not hold `..`, backslashes or control characters")
