"""The models we know, the published files they are made of, and where those lie on this machine.

Reads `catalog.toml` beside it with nothing but the standard library, because the builder that bakes the files reads it
too. What is in a file is `engine.weights`' matter.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from engine.errors import InvalidInput, ModelNotBaked, Problem, UnknownModel

Task = Literal["upscale", "t2v", "i2v", "v2v"]
DATA = Path(__file__).parent / "data"
SUFFIXES = (".safetensors", ".gguf", ".pth", ".pt")
LONGEST_SHOWN = 60
# A job may name a family instead of a model: the first of that family that the worker offers is meant, a published
# model before our own, which nobody means by another's name.
FAMILIES = {"seedvr2": "seedvr2", "wan": "wan", "wan2.1": "wan", "real-esrgan": "esrgan", "realesrgan": "esrgan"}


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
    family: Literal["esrgan", "seedvr2", "wan"]
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
class Located:
    """The files of a model on this machine, by name, and those that are not there."""

    paths: Mapping[str, Path]
    missing: tuple[File, ...]


@cache
def models() -> tuple[Model, ...]:
    """The whole catalog, in its order."""
    with (Path(__file__).parent / "catalog.toml").open("rb") as file:
        table = tomllib.load(file)
    sources = {key: Source(**value) for key, value in table["source"].items()}
    files = {key: _file(key, value, sources) for key, value in table["file"].items()}
    return tuple(_model(entry, files) for entry in table["model"])


def find(name: str) -> Model | None:
    """The model of that name or published file name; case, suffix and leading folders do not matter."""
    index = _index()
    return index.get(name.strip().casefold()) or index.get(_key(name))


def resolve_model(name: str | None, offered: Sequence[str], task: Task = "upscale") -> Model:
    """The model that a job means: by name, by family, or the first of `offered` that can do `task`.

    Raises UnknownModel (in no catalog), ModelNotBaked (not offered by this worker), InvalidInput (cannot do `task`).
    """
    baked = [_configured(each) for each in offered]
    able = [model for model in baked if task in model.tasks]
    if name is None:
        return _first(able, f"no model here does {_verb(task)}", baked)
    family = FAMILIES.get(name.strip().casefold())
    if family is not None:
        kin = sorted((m for m in able if m.family == family), key=lambda m: m.files[0].url is None)
        return _first(kin, f"no {family} model here does {_verb(task)}", baked)
    model = find(name)
    if model is None:
        raise UnknownModel(f"{_unknown(name)}; {_offer(baked)}", field="model")
    if model not in baked:
        raise ModelNotBaked(f"the model `{model.name}` is not in this worker; {_offer(baked)}", field="model")
    if task not in model.tasks:
        raise InvalidInput([Problem("model", f"`{model.name}` cannot do {_verb(task)}; for that {_offer(able)}")])
    return model


def locate(model: Model, folders: Iterable[Path]) -> Located:
    """Where the model's files lie: in `folders`, in the Hugging Face caches there, or in the package itself.

    A file of another size than the published one is another file.
    """
    places = [*folders, DATA]
    found = {file.name: path for file in model.files if (path := _find_file(file, places)) is not None}
    return Located(found, tuple(file for file in model.files if file.name not in found))


def _file(key: str, value: Mapping[str, Any], sources: Mapping[str, Source]) -> File:
    folder, _, name = key.rpartition("/")
    fields = {"path": name, **value, "source": sources[value["source"]]}
    return File(name=name, folder=folder or None, **fields)


def _model(entry: Mapping[str, Any], files: Mapping[str, File]) -> Model:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Model(**{**fields, "files": tuple(files[key] for key in entry["files"])})


@cache
def _index() -> Mapping[str, Model]:
    names = {name.casefold(): model for model in models() for name in model.names}
    return {_key(name): model for name, model in names.items()} | names


def _key(name: str) -> str:
    key = name.strip().replace("\\", "/").rpartition("/")[2].casefold()
    for suffix in SUFFIXES:
        key = key.removesuffix(suffix)
    return key


def _configured(name: str) -> Model:
    model = find(name)
    if model is None:
        raise UnknownModel(f"the setting MODELS is wrong: {_unknown(name)}", field="model")
    return model


def _first(able: Sequence[Model], otherwise: str, baked: Sequence[Model]) -> Model:
    if not able:
        raise ModelNotBaked(f"{otherwise}; {_offer(baked)}", field="model")
    return able[0]


def _unknown(name: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in name[:LONGEST_SHOWN])
    near = get_close_matches(_key(name[:200]), [_key(model.name) for model in models()], n=3, cutoff=0.5)
    known = {_key(model.name): model.name for model in models()}
    nearest = f"; the nearest are {', '.join(f'`{known[n]}`' for n in near)}" if near else ""
    return f"no model is called `{shown}`{nearest}"


def _offer(baked: Sequence[Model]) -> str:
    return f"this worker offers {', '.join(f'`{model.name}`' for model in baked) or 'none'}"


def _verb(task: Task) -> str:
    return {
        "upscale": "upscaling",
        "t2v": "text to video",
        "i2v": "image to video",
        "v2v": "video to video",
    }[task]


def _find_file(file: File, folders: Iterable[Path]) -> Path | None:
    for folder in folders:
        for path in _places(file, folder):
            if path.is_file() and file.bytes in (None, path.stat().st_size):
                return path
    return None


def _places(file: File, folder: Path) -> Iterator[Path]:
    if file.folder is None:
        yield folder / file.name
    else:
        yield folder / file.folder / file.name
    if file.source.repo is not None:
        owner, _, repo = file.source.repo.partition("/")
        yield folder / repo / file.path
        cached = folder / f"models--{owner}--{repo}" / "snapshots"
        yield cached / str(file.source.revision) / file.path
        if cached.is_dir():
            yield from (snapshot / file.path for snapshot in sorted(cached.iterdir()))
