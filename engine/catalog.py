"""The models and LoRAs we know, by their names, and what was recorded of files whose digests were not known.

Reads `catalog.toml` and `catalog.lock.json` beside it, and files of an operator's own in the form of the former, with
nothing but the standard library, because the builder that bakes the files reads them too. What is in a file is
`engine.weights`' matter.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

from engine.entries import FAMILIES, Family, File, Lora, Model, Needs, Source, Task, confined
from engine.errors import Internal, InvalidInput, ModelNotBaked, Problem, UnknownModel
from engine.locating import DATA, Located, locate

__all__ = [
    "DATA",
    "FAMILIES",
    "Catalog",
    "Family",
    "File",
    "Located",
    "Lora",
    "Model",
    "Needs",
    "Source",
    "Task",
    "built_in",
    "locate",
]

LOCK = Path(__file__).parent / "catalog.lock.json"
LONGEST_SHOWN = 60
SUFFIXES = (".safetensors", ".gguf", ".pth", ".pt")
# Files that no model of a family or for a task is without.
ROLES = {"seedvr2": {"dit", "vae"}, "wan": {"dit", "vae", "text_encoder"}, "i2v": {"image_encoder"}}
# Relatives of Wan2.1's models that services offer and no worker of ours does.
BEYOND = {"flf2v": "a first and a last frame (FLF2V)", "vace": "VACE", "wan2.2": "Wan2.2", "wan22": "Wan2.2"}


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

    def configured(self, name: str) -> Model:
        """The model that the setting MODELS means by one of its names. Raises UnknownModel, for a family as well."""
        if model := self.find(name):
            return model
        wrong = self._unknown(name)
        if family := FAMILIES.get(name.strip().casefold()):
            kin = ", ".join(f"`{model.name}`" for model in self.models if model.family == family)
            wrong = f"`{name.strip()}` is a family; name the models that this worker is to offer: {kin}"
        raise UnknownModel(f"the setting MODELS is wrong: {wrong}", field="model")

    def resolve(self, name: str | None, offered: Sequence[str], task: Task = "upscale") -> Model:
        """The model that a job means: by name, by family, or the first of `offered` that can do `task`.

        Raises UnknownModel (not in the catalog), ModelNotBaked (not offered by this worker), InvalidInput (cannot do
        `task`).
        """
        baked = [self.configured(each) for each in offered]
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

    def recorded(self, lock: Mapping[str, Mapping[str, Any]]) -> "Catalog":
        """This catalog, with what was recorded of files on their first download: by key, `bytes`, `sha256`, `revision`.

        Files that it does not have are passed over, as one that was taken out of it must stop no worker. Raises
        ValueError where the lock contradicts it.
        """
        files = {key: _recorded(file, lock[key]) if key in lock else file for key, file in self._files.items()}
        return Catalog(
            tuple(replace(model, files=tuple(files[file.key] for file in model.files)) for model in self.models),
            tuple(replace(lora, file=files[lora.file.key]) for lora in self.loras),
        )

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

    def _unknown(self, name: str) -> str:
        shown = "".join(c if c.isprintable() else "?" for c in name[:LONGEST_SHOWN])
        if "wan" in (key := _key(name)) and (kin := [what for mark, what in BEYOND.items() if mark in key]):
            return f"`{shown}` is a model of {kin[0]}, which this engine does not run"
        known = {_key(each): each for model in self.models for each in (*model.aliases, model.name)}
        near = get_close_matches(_key(name[:200]), known, n=3, cutoff=0.5)
        nearest = f"; the nearest are {', '.join(f'`{known[n]}`' for n in near)}" if near else ""
        return f"no model is called `{shown}`{nearest}"


@cache
def built_in() -> Catalog:
    """The catalog of the package, with what was recorded of its files."""
    return _read(Path(__file__).parent / "catalog.toml", {}).recorded(json.loads(LOCK.read_text("utf-8")))


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
    fields = {"path": name, **value, "source": sources[value["source"]], "copies": tuple(value.get("copies", ()))}
    if fields.get("sha256") == "record":
        del fields["sha256"]
    for place in (key, fields["path"], *fields["copies"]):
        if not confined(place):
            raise ValueError(f"`{place}` is no place below a folder")
    return File(name=name, folder=folder or None, **fields)


def _recorded(file: File, found: Mapping[str, Any]) -> File:
    for fact in ("sha256", "bytes"):
        ours = getattr(file, fact)
        if ours is not None and found[fact] != ours:
            raise ValueError(f"{fact} of `{file.key}` was recorded as {found[fact]} but is {ours} in the catalog")
    source = file.source
    if source.branch and "revision" in found:
        source = replace(source, revision=found["revision"])
    return replace(file, sha256=found["sha256"], bytes=found["bytes"], source=source)


def _model(entry: Mapping[str, Any], files: Mapping[str, File]) -> Model:
    if entry["family"] not in get_args(Family):
        raise ValueError(f"there is no family `{entry['family']}`; there are {', '.join(get_args(Family))}")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    if "needs" in fields:
        fields["needs"] = Needs(**fields["needs"])
    _demand_plain(entry["name"])
    if not entry["files"]:
        raise ValueError(f"`{entry['name']}` has no files")
    model = Model(**{**fields, "files": tuple(files[key] for key in entry["files"])})
    for kind in (model.family, *model.tasks):
        if lacking := sorted(ROLES.get(kind, set()) - {file.role for file in model.files}):
            raise ValueError(f"`{model.name}` has no file of role `{lacking[0]}`, which every {kind} model needs")
    names = [file.name for file in model.files]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two files of `{model.name}` are called `{twice[0]}`")
    return model


def _lora(entry: Mapping[str, Any], files: Mapping[str, File]) -> Lora:
    _demand_plain(entry["name"])
    fields = {**entry, "file": files[entry["file"]], "architectures": tuple(entry["for"])}
    del fields["for"]
    return Lora(**fields)


def _demand_plain(name: str) -> None:
    """Raises ValueError for what cannot name a file: a manifest and a converted network are called like their model."""
    if "/" in name or not confined(name):
        raise ValueError(f"`{name}` is no name: it is a place")


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
