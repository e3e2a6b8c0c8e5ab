"""What a catalog is made of: models and LoRAs, the published files that they consist of, and where those come from."""

import re
from dataclasses import dataclass
from typing import Literal

Task = Literal["upscale", "t2v", "i2v", "v2v"]
Family = Literal["esrgan", "seedvr2", "wan"]
BITS = {  # of a parameter, by a file's precision; of GGUF's mixtures about as many as large files have
    "F32": 32.0,
    "F16": 16.0,
    "BF16": 16.0,
    "F8_E4M3": 8.0,
    "Q4_K": 5.6,
    "Q5_K": 6.4,
    "Q6_K": 7.2,
    "Q8_0": 8.9,
}
ADVISABLE = {"steps": (1, 100), "guidance": (1, 20), "shift": (0.01, 100)}  # what a job may ask for, so a LoRA as well
SOLVERS = ("unipc", "dpm++", "euler")
OPTIONAL_ROLES = ("negative", "negative_prompt")  # a model does without these where they are not here
# A job may name a family instead of a model: the first of that family that the worker offers is meant, a published
# model before our own, which nobody means by another's name.
FAMILIES = {
    "seedvr2": "seedvr2",
    "wan": "wan",
    "wan2.1": "wan",
    "wan21": "wan",
    "real-esrgan": "esrgan",
    "realesrgan": "esrgan",
}


def confined(path: str) -> bool:
    """True for a path that stays below the folder that it is put behind."""
    return "\\" not in path and all(part not in ("", ".", "..") for part in path.split("/"))


@dataclass(frozen=True, slots=True)
class Source:
    """Where files are published: a Hugging Face repository at a revision, or a base address; ours has neither."""

    licence: str
    repo: str | None = None
    revision: str | None = None
    url: str | None = None

    @property
    def branch(self) -> bool:
        """True where the revision is no commit, so that what is published there may change."""
        return self.repo is not None and re.fullmatch("[0-9a-f]{40}", str(self.revision)) is None


@dataclass(frozen=True, slots=True)
class File:
    """One published file. `folder` tells files of one name apart; `path` is its place in the source.

    bytes, sha256: None where nobody states them: they are recorded on the first download. sources: how many public
    sources agree on the digest; undisputed from ten on, which is as far as we counted. copies: places of the same bytes
    in other repositories, as owner/name/path.
    """

    name: str
    folder: str | None
    path: str
    role: str
    source: Source
    bytes: int | None = None
    sha256: str | None = None
    sources: int = 0
    copies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"the sha256 of `{self.name}` is neither 64 hexadecimal digits nor `record`")

    @property
    def key(self) -> str:
        """Its name in the catalog, where no two files share one."""
        return f"{self.folder}/{self.name}" if self.folder else self.name

    @property
    def optional(self) -> bool:
        """True for what a model does without where it is not on the machine."""
        return self.role in OPTIONAL_ROLES

    @property
    def url(self) -> str | None:
        """Where it is downloaded from; None for what lies in the package."""
        source = self.source
        if source.repo is not None:
            return f"https://huggingface.co/{source.repo}/resolve/{source.revision}/{self.path}"
        return f"{source.url}/{self.path}" if source.url is not None else None


@dataclass(frozen=True, slots=True)
class Needs:
    """Graphics memory in MB (2^20 bytes) for a usual job: by the thriftiest plan, and with all of it at once."""

    least: int
    whole: int


@dataclass(frozen=True, slots=True)
class Model:
    """What a job's `model` names. `family` is the pipeline that runs it; `files[0]` is the network or its first shard.

    scale: the network's own factor, where it has one. architecture: which network, where a family has several.
    """

    name: str
    family: Family
    tasks: tuple[Task, ...]
    description: str
    parameters: int
    precision: str
    files: tuple[File, ...]
    scale: int | None = None
    architecture: str | None = None
    aliases: tuple[str, ...] = ()
    description_zh: str = ""
    needs: Needs | None = None

    @property
    def licence(self) -> str:
        """Of the network's weights."""
        return self.files[0].source.licence

    @property
    def network(self) -> tuple[File, ...]:
        """The files of the network itself: all shards, or the one."""
        return tuple(file for file in self.files if file.role == self.files[0].role)

    @property
    def download_bytes(self) -> int:
        """Of all its files, as far as known; the network's are estimated where they are not."""
        return sum(self.bytes_of(role) or 0 for role in dict.fromkeys(file.role for file in self.files))

    def bytes_of(self, role: str) -> int | None:
        """Of its files of that role: as published, or of the network about as many where that is not known."""
        known = [file.bytes for file in self.files if file.role == role]
        if None not in known:
            return sum(size for size in known if size is not None) or None
        return int(self.parameters * BITS.get(self.precision, 16.0) / 8) if role == self.files[0].role else None

    @property
    def mixed(self) -> bool:
        """True for a Real-ESRGAN model whose two checkpoints `denoise_strength` mixes."""
        return self.family == "esrgan" and len(self.files) > 1

    @property
    def names(self) -> tuple[str, ...]:
        """Every name a job may use, the file's own among them."""
        own = self.files[0]
        return tuple(dict.fromkeys((self.name, *self.aliases, *(() if own.folder else (own.name,)))))


@dataclass(frozen=True, slots=True)
class Lora:
    """What a job's `loras` may name. architectures: of the models that it fits.

    steps, guidance, shift, solver: what a job should ask for with it, where it was made for that.
    """

    name: str
    description: str
    file: File
    architectures: tuple[str, ...]
    steps: int | None = None
    guidance: float | None = None
    shift: float | None = None
    solver: str | None = None
    description_zh: str = ""

    def __post_init__(self) -> None:
        for name, (least, most) in ADVISABLE.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(
                    f"the LoRA `{self.name}` advises {name} {value}: from {least} to {most} can be asked for"
                )
        if self.solver not in (None, *SOLVERS):
            raise ValueError(
                f"the LoRA `{self.name}` advises the solver `{self.solver}`; there are {', '.join(SOLVERS)}"
            )

    @property
    def files(self) -> tuple[File, ...]:
        return (self.file,)

    @property
    def download_bytes(self) -> int:
        """Of its file, 0 where that is not known."""
        return self.file.bytes or 0

    def fits(self, model: Model) -> bool:
        return model.family == "wan" and model.architecture in self.architectures
