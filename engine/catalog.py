"""The models and LoRAs we know, the published files they are made of, and where those lie on this machine.

Reads `catalog.toml` beside it, and files of an operator's own in the same form, with nothing but the standard library,
because the builder that bakes the files reads it too. What is in a file is `engine.weights`' matter.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from engine.errors import Internal, InvalidInput, ModelNotBaked, Problem, UnknownModel

Task = Literal["upscale", "t2v", "i2v", "v2v"]
Family = Literal["esrgan", "seedvr2", "wan"]
DATA = Path(__file__).parent / "data"
SUFFIXES = (".safetensors", ".gguf", ".pth", ".pt")
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
LONGEST_SHOWN = 60
# Files that no model of a family or for a task is without, and those that one does without where they are not here.
ROLES = {"seedvr2": {"dit", "vae"}, "wan": {"dit", "vae", "text_encoder"}, "i2v": {"image_encoder"}}
OPTIONAL_ROLES = ("negative", "negative_prompt")
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
# Relatives of Wan2.1's models that services offer and no worker of ours does.
BEYOND = {"flf2v": "a first and a last frame (FLF2V)", "vace": "VACE", "wan2.2": "Wan2.2", "wan22": "Wan2.2"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where files are published: a Hugging Face repository at a revision, or a base address; ours has neither."""

    licence: str
    repo: str | None = None
    revision: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """One published file. `folder` tells files of one name apart; `path` is its place in the source."""

    name: str
    folder: str | None
    path: str
    role: str
    source: Source
    bytes: int | None = None
    sha256: str | None = None

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

    @property
    def licence(self) -> str:
        """Of the network's weights."""
        return self.files[0].source.licence

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

    def fits(self, model: Model) -> bool:
        return model.family == "wan" and model.architecture in self.architectures


@dataclass(frozen=True, slots=True)
class Located:
    """The files of a model or LoRA on this machine, by name, and those that are not there."""

    paths: Mapping[str, Path]
    missing: tuple[File, ...]


@dataclass(frozen=True)
class Catalog:
    """All models and LoRAs that a worker knows, in order."""

    models: tuple[Model, ...]
    loras: tuple[Lora, ...] = ()

    def find(self, name: str) -> Model | None:
        """The model of that name or published file name; case, suffix and leading folders do not matter."""
        return self._index.get(name.strip().casefold()) or self._index.get(_key(name))

    def find_lora(self, name: str) -> Lora | None:
        """The LoRA of that name or published file name, in the same way."""
        return self._lora_index.get(_key(name))

    def resolve(self, name: str | None, offered: Sequence[str], task: Task = "upscale") -> Model:
        """The model that a job means: by name, by family, or the first of `offered` that can do `task`.

        Raises UnknownModel (not in the catalog), ModelNotBaked (not offered by this worker), InvalidInput (cannot do
        `task`).
        """
        baked = [self._configured(each) for each in offered]
        able = [model for model in baked if task in model.tasks]
        if name is None:
            return _first(able, f"no model here does {_verb(task)}", baked)
        family = FAMILIES.get(name.strip().casefold())
        if family is not None:
            kin = sorted((m for m in able if m.family == family), key=lambda m: m.files[0].url is None)
            return _first(kin, f"no {family} model here does {_verb(task)}", baked)
        model = self.find(name)
        if model is None:
            raise UnknownModel(f"{self._unknown(name)}; {_offer(baked)}", field="model")
        if model not in baked:
            raise ModelNotBaked(f"the model `{model.name}` is not in this worker; {_offer(baked)}", field="model")
        if task not in model.tasks:
            raise InvalidInput([Problem("model", f"`{model.name}` cannot do {_verb(task)}; for that {_offer(able)}")])
        return model

    def with_file(self, path: Path) -> "Catalog":
        """This catalog and the models of an operator's own file, which may name files of this one.

        Raises Internal, which says what is wrong with it.
        """
        try:
            more = _read(path, self._files)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _mistake(path, f"cannot be read: {_reason(error)}") from error
        known = dict(self._index)
        for model in more.models:
            for name in model.names:
                if (other := known.setdefault(_key(name), model)) is not model:
                    raise _mistake(path, f"calls a model `{name}`, a name that `{other.name}` has already")
        for lora in more.loras:
            if self.find_lora(lora.name) or more.find_lora(lora.name) is not lora:
                raise _mistake(path, f"has a second LoRA of the name `{lora.name}`")
        return Catalog((*self.models, *more.models), (*self.loras, *more.loras))

    @cached_property
    def _index(self) -> Mapping[str, Model]:
        names = {name.casefold(): model for model in self.models for name in model.names}
        return {_key(name): model for name, model in names.items()} | names

    @property
    def _files(self) -> dict[str, File]:
        files = (*(file for model in self.models for file in model.files), *(lora.file for lora in self.loras))
        return {file.key: file for file in files}

    @cached_property
    def _lora_index(self) -> Mapping[str, Lora]:
        return {_key(name): lora for lora in self.loras for name in (lora.file.name, lora.name)}

    def _configured(self, name: str) -> Model:
        model = self.find(name)
        if model is None:
            raise UnknownModel(f"the setting MODELS is wrong: {self._unknown(name)}", field="model")
        return model

    def _unknown(self, name: str) -> str:
        shown = "".join(c if c.isprintable() else "?" for c in name[:LONGEST_SHOWN])
        if "wan" in (key := _key(name)) and (kin := [what for mark, what in BEYOND.items() if mark in key]):
            return f"`{shown}` is a model of {kin[0]}, which this engine does not run"
        known = {_key(model.name): model.name for model in self.models}
        near = get_close_matches(_key(name[:200]), known, n=3, cutoff=0.5)
        nearest = f"; the nearest are {', '.join(f'`{known[n]}`' for n in near)}" if near else ""
        return f"no model is called `{shown}`{nearest}"


@cache
def built_in() -> Catalog:
    """The catalog of the package."""
    return _read(Path(__file__).parent / "catalog.toml", {})


def locate(model: Model | Lora, folders: Iterable[Path]) -> Located:
    """Where its files lie: in `folders`, in the Hugging Face caches there, or in the package itself.

    What several models share may also lie beside the network, whose repository often holds a copy. A file of another
    size than the published one is another file.
    """
    places, network = [*folders, DATA], model.files[0].source
    found = {file.name: path for file in model.files if (path := _find_file(file, network, places)) is not None}
    return Located(found, tuple(file for file in model.files if file.name not in found))


def _read(path: Path, known: Mapping[str, File]) -> Catalog:
    """One catalog file alone, made of its own files and `known` ones."""
    table = tomllib.loads(path.read_text("utf-8"))
    sources = {key: Source(**value) for key, value in table.get("source", {}).items()}
    files = {key: _file(key, value, sources) for key, value in table.get("file", {}).items()}
    if twice := sorted(files.keys() & known.keys()):
        raise ValueError(f"the file `{twice[0]}` is in the catalog already")
    files = {**known, **files}
    models = tuple(_model(entry, files) for entry in table.get("model", []))
    return Catalog(models, tuple(_lora(entry, files) for entry in table.get("lora", [])))


def _file(key: str, value: Mapping[str, Any], sources: Mapping[str, Source]) -> File:
    folder, _, name = key.rpartition("/")
    fields = {"path": name, **value, "source": sources[value["source"]]}
    return File(name=name, folder=folder or None, **fields)


def _model(entry: Mapping[str, Any], files: Mapping[str, File]) -> Model:
    if entry["family"] not in get_args(Family):
        raise ValueError(f"there is no family `{entry['family']}`; there are {', '.join(get_args(Family))}")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    model = Model(**{**fields, "files": tuple(files[key] for key in entry["files"])})
    for kind in (model.family, *model.tasks):
        if lacking := sorted(ROLES.get(kind, set()) - {file.role for file in model.files}):
            raise ValueError(f"`{model.name}` has no file of role `{lacking[0]}`, which every {kind} model needs")
    names = [file.name for file in model.files]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two files of `{model.name}` are called `{twice[0]}`")
    return model


def _lora(entry: Mapping[str, Any], files: Mapping[str, File]) -> Lora:
    fields = {**entry, "file": files[entry["file"]], "architectures": tuple(entry["for"])}
    del fields["for"]
    return Lora(**fields)


def _key(name: str) -> str:
    key = name.strip().replace("\\", "/").rpartition("/")[2].casefold()
    for suffix in SUFFIXES:
        key = key.removesuffix(suffix)
    return key


def _mistake(path: Path, text: str) -> Internal:
    return Internal(f"the setting CATALOG is wrong: {path.name} {text}", hint="a catalog file has catalog.toml's form")


def _reason(error: Exception) -> str:
    """In a few words, without the path that an OSError tells."""
    match error:
        case OSError():
            return error.strerror or "an error of the disk"
        case KeyError():
            return f"`{error.args[0]}` is missing"
        case _:
            return str(error)


def _first(able: Sequence[Model], otherwise: str, baked: Sequence[Model]) -> Model:
    if not able:
        raise ModelNotBaked(f"{otherwise}; {_offer(baked)}", field="model")
    return able[0]


def _offer(baked: Sequence[Model]) -> str:
    return f"this worker offers {', '.join(f'`{model.name}`' for model in baked) or 'none'}"


def _verb(task: Task) -> str:
    return {
        "upscale": "upscaling",
        "t2v": "text to video",
        "i2v": "image to video",
        "v2v": "video to video",
    }[task]


def _find_file(file: File, network: Source, folders: Iterable[Path]) -> Path | None:
    for folder in folders:
        for path in _places(file, network, folder):
            if path.is_file() and file.bytes in (None, path.stat().st_size):
                return path
    return None


def _places(file: File, network: Source, folder: Path) -> Iterator[Path]:
    if file.folder is None:
        yield folder / file.name
    else:
        yield folder / file.folder / file.name
    for source in dict.fromkeys((file.source, network)):
        if source.repo is not None:
            owner, _, repo = source.repo.partition("/")
            yield folder / repo / file.path
            cached = folder / f"models--{owner}--{repo}" / "snapshots"
            yield cached / str(source.revision) / file.path
            if cached.is_dir():
                yield from (snapshot / file.path for snapshot in sorted(cached.iterdir()))
