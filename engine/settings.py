"""The worker's environment, read once in handler.py. Names and defaults are the contract's."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.config import JsonDict

GIB = 2**30


def _default(words: str) -> JsonDict:
    """What the README says in place of a default that is computed, or long."""
    return {"x-default": words}


class Settings(BaseModel):
    """Every setting by the name of its environment variable, in lower case. An empty variable counts as unset."""

    model_config = ConfigDict(frozen=True)

    models: tuple[str, ...] = Field(
        ("bundled",),
        description="comma-separated catalog names this worker offers; the first is the default",
    )
    models_dir: tuple[Path, ...] = Field(
        (Path("/models"), Path("/runpod-volume/models"), Path("/runpod-volume/huggingface-cache/hub")),
        description="colon-separated folders searched for the published files, in this order: what the image brings, "
        "the network volume, RunPod's cached models",
    )
    catalog: tuple[Path, ...] = Field(
        (), description="colon-separated files that add models of your own, in the form of `engine/catalog.toml`"
    )

    bucket_url: str | None = Field(None, description="`s3://bucket/prefix` or `gs://bucket/prefix`: where results go")
    bucket_endpoint_url: str | None = Field(
        None, json_schema_extra=_default("AWS"), description="where an S3-compatible bucket is spoken to"
    )
    bucket_access_key_id: SecretStr | None = Field(
        None, json_schema_extra=_default("the AWS chain"), description="credentials of the bucket"
    )
    bucket_secret_access_key: SecretStr | None = Field(
        None, json_schema_extra=_default("the AWS chain"), description="credentials of the bucket"
    )
    bucket_region: str | None = Field(None, description="region of the bucket")
    gcs_credentials_json: SecretStr | None = Field(
        None,
        json_schema_extra=_default("application default credentials"),
        description="a service account's key, for `gs://`",
    )
    public_base_url: str | None = Field(None, description="answer links under this address instead of presigned ones")
    url_expires_s: int = Field(604_800, ge=60, le=604_800, description="life of presigned links, in seconds")

    output_dir: Path = Field(Path("outputs"), description="local mode: where results go")
    local_roots: tuple[Path, ...] = Field(
        (),
        json_schema_extra=_default("the working folder in local mode, `/runpod-volume` on RunPod"),
        description="colon-separated folders that local paths may lie under",
    )
    allowed_hosts: frozenset[str] = Field(
        frozenset(),
        description="comma-separated hosts (or host:port) that may be private addresses, such as `127.0.0.1:9000`",
    )

    max_input_bytes: int = Field(
        5 * GIB, gt=0, json_schema_extra=_default("5 GiB"), description="largest source, in bytes"
    )
    max_input_seconds: float = Field(7200, gt=0, description="longest source, in seconds")
    max_input_frames: int = Field(500_000, gt=0, description="longest source, in frames")
    max_pixels: int = Field(
        8192 * 8192,
        gt=0,
        json_schema_extra=_default("`8192x8192`"),
        description="largest frame of a source, as a number of pixels or a product",
    )
    max_output_pixels: int = Field(
        8192 * 8192, gt=0, json_schema_extra=_default("`8192x8192`"), description="largest frame of a result, likewise"
    )

    device: Literal["auto", "cuda", "cpu"] = Field("auto", description="`auto`, `cuda` or `cpu`")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field("auto", description="`auto`, `bf16`, `fp16` or `fp32`")
    fp8_matmul: bool = Field(
        False,
        json_schema_extra=_default("off"),
        description="multiply Wan2.1's fp8 weights in fp8 where the GPU can: faster, and an approximation",
    )
    vram_budget_mb: int | None = Field(
        None, gt=0, json_schema_extra=_default("what is free"), description="most GPU memory that is planned with"
    )
    ram_budget_mb: int | None = Field(
        None, gt=0, json_schema_extra=_default("what is free"), description="most memory that is planned with"
    )
    gpu_idle_timeout: float = Field(
        600, ge=0, description="seconds after which an idle model leaves the GPU; 0 = never"
    )

    scratch_dir: Path | None = Field(
        None, json_schema_extra=_default("the system's temporary folder"), description="where a job's files lie"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )

    runpod_webhook_get_job: str | None = Field(None, description="set by the platform; absent in local mode")

    @field_validator("models", "allowed_hosts", mode="before")
    @classmethod
    def _commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("models_dir", "catalog", "local_roots", mode="before")
    @classmethod
    def _colons(cls, value: object) -> object:
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @field_validator("max_pixels", "max_output_pixels", mode="before")
    @classmethod
    def _product(cls, value: object) -> object:
        """`8192x8192` is as good as 67108864."""
        if not isinstance(value, str):
            return value
        width, times, height = value.lower().partition("x")
        try:
            return int(width) * (int(height) if times else 1)
        except ValueError:
            raise ValueError("should be a number of pixels, or a product such as 8192x8192") from None

    @property
    def local(self) -> bool:
        """True on a developer's machine, false where RunPod's queue feeds the worker."""
        return self.runpod_webhook_get_job is None

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders that local paths of a job may lie under."""
        return self.local_roots or ((Path.cwd(),) if self.local else (Path("/runpod-volume"),))

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Raises pydantic.ValidationError; `complaint` says what is wrong with which variable."""
        names = {name.upper(): name for name in cls.model_fields}
        return cls.model_validate({names[k]: v for k, v in env.items() if k in names and v != ""})


def complaint(error: ValidationError) -> str:
    """One line: each wrong variable and what it should be. Values are left out, as they may be secret."""
    return "; ".join(f"{str(wrong['loc'][0]).upper()}: {_rule(wrong['msg'])}" for wrong in error.errors())


def _rule(message: str) -> str:
    """Pydantic's words, or ours out of a validator, without what Pydantic begins them with."""
    return message.removeprefix("Value error, ").removeprefix("Input ")
