"""What a catalog says of made-up checkpoints."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Model:
    """files: their keys, which are their paths below the catalog's folder, and their roles."""

    name: str
    family: str
    architecture: str
    tasks: tuple[str, ...]
    description: str
    parameters: int
    precision: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lora:
    name: str
    file: str
    architectures: tuple[str, ...]


def catalog(folder: Path, models: Iterable[Model], loras: Iterable[Lora] = ()) -> Iterator[str]:
    """The text of a catalog whose files lie in `folder`."""
    models, loras = list(models), list(loras)
    roles = {key: role for model in models for key, role in model.files.items()} | {each.file: "lora" for each in loras}
    yield '[source.tiny]\nlicence = "Apache-2.0"\n'
    for key, role in roles.items():
        content = (folder / key).read_bytes()
        yield f'[file."{key}"]\nsource = "tiny"\nrole = "{role}"\nbytes = {len(content)}'
        yield f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
    for model in models:
        yield f'[[model]]\nname = "{model.name}"\nfamily = "{model.family}"\narchitecture = "{model.architecture}"'
        yield f'tasks = [{_listed(model.tasks)}]\ndescription = "{model.description}"'
        yield f'parameters = {model.parameters}\nprecision = "{model.precision}"\nfiles = [{_listed(model.files)}]\n'
    for lora in loras:
        yield f'[[lora]]\nname = "{lora.name}"\ndescription = "For tests"\nfile = "{lora.file}"'
        yield f"for = [{_listed(lora.architectures)}]\n"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)
