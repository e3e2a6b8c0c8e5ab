"""The worker's environment, read once in handler.py. Names and defaults are the contract's."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

GIB = 2**30


class Settings(BaseModel):
    """Every setting by the name of its environment variable, in lower case. An empty variable counts as unset."""

    model_config = ConfigDict(frozen=True)

    models: tuple[str, ...] = Field(("bundled",), description="catalog names, the first is default")
    models_dir: tuple[Path, ...] = (Path("/models"), Path("/runpod-volume/models"))

    bucket_url: str | None = Field(None, description="s3://bucket/prefix or gs://bucket/prefix: where results go")
    bucket_endpoint_url: str | None = None
    bucket_access_key_id: SecretStr | None = None
    bucket_secret_access_key: SecretStr | None = None
    bucket_region: str | None = None
    gcs_credentials_json: SecretStr | None = None
    public_base_url: str | None = None
    url_expires_s: int = Field(604_800, ge=60, le=604_800)

    output_dir: Path = Path("outputs")
    local_roots: tuple[Path, ...] = ()
    allowed_hosts: frozenset[str] = frozenset()

    max_input_bytes: int = Field(5 * GIB, gt=0)
    max_input_seconds: float = Field(7200, gt=0)
    max_input_frames: int = Field(500_000, gt=0)
    max_pixels: int = Field(8192 * 8192, gt=0)
    max_output_pixels: int = Field(8192 * 8192, gt=0)

    device: Literal["auto", "cuda", "cpu"] = "auto"
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    vram_budget_mb: int | None = Field(None, gt=0)
    ram_budget_mb: int | None = Field(None, gt=0)
    gpu_idle_timeout: float = Field(600, ge=0, description="seconds; 0 keeps idle models on the GPU")

    scratch_dir: Path | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    runpod_webhook_get_job: str | None = Field(None, description="set by the platform; absent in local mode")

    @field_validator("models", "allowed_hosts", mode="before")
    @classmethod
    def _commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("models_dir", "local_roots", mode="before")
    @classmethod
    def _colons(cls, value: object) -> object:
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @field_validator("max_pixels", "max_output_pixels", mode="before")
    @classmethod
    def _product(cls, value: object) -> object:
        """`8192x8192` is as good as 67108864."""
        if isinstance(value, str) and "x" in value.lower():
            width, height = value.lower().split("x", 1)
            return int(width) * int(height)
        return value

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
        """Raises pydantic.ValidationError, which names the variable."""
        names = {name.upper(): name for name in cls.model_fields}
        return cls.model_validate({names[k]: v for k, v in env.items() if k in names and v != ""})
