"""Which files the models and LoRAs of a command line are made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from builder.bake.errors import BakeError
from engine.catalog import FAMILIES, Catalog, File, Lora, Model, locate
from engine.errors import UnknownModel
from engine.manifests import Baked, Manifest

Entry = Model | Lora


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file and the first model or LoRA that needs it, beside whose network a shared file may lie."""

    file: File
    entry: Entry

    @property
    def estimate(self) -> int | None:
        """About how many bytes a network of one file has, None of any other."""
        if not isinstance(self.entry, Model) or [file.key for file in self.entry.network] != [self.file.key]:
            return None
        return self.entry.bytes_of(self.file.role)


def everything(catalog: Catalog) -> list[Entry]:
    """All models and LoRAs, in order."""
    return [*catalog.models, *catalog.loras]


def entries(catalog: Catalog, names: Sequence[str]) -> list[Entry]:
    """Models and LoRAs by name, alias, file name or family, several of them joined by commas. Raises BakeError."""
    single = [name.strip() for each in names for name in each.split(",") if name.strip()]
    if names and not single:
        raise BakeError("name at least one MODEL; --list shows them all")
    return list(dict.fromkeys(entry for name in single for entry in _named(catalog, name)))


def files(entries: Iterable[Entry], besides: Iterable[Entry] = ()) -> dict[str, Wanted]:
    """Every file of those by its key, each once, without what `besides` bring and what lies in the package.

    Raises BakeError where two need different files of one name.
    """
    elsewhere = {file.key for entry in besides for file in entry.files}
    found: dict[str, Wanted] = {}
    for entry in entries:
        for file in entry.files:
            if file.key in elsewhere or in_package(entry, file):
                continue
            other = found.setdefault(file.key, Wanted(file, entry))
            if (other.file.sha256, other.file.bytes) != (file.sha256, file.bytes):
                raise BakeError(
                    f"`{other.entry.name}` and `{entry.name}` need different files at {file.key}: sha256 "
                    f"{other.file.sha256} and {file.sha256}; bake them into two folders"
                )
    return found


def held(file: File, known: Baked | None) -> File:
    """The file, held to what an earlier bake found in it where the catalog states no digest."""
    if file.sha256 is not None or known is None:
        return file
    source = replace(file.source, revision=known.revision) if known.revision else file.source
    return replace(file, sha256=known.sha256, bytes=known.bytes, source=source)


def in_package(entry: Entry, file: File) -> bool:
    """True for what comes with the code and is never baked."""
    return file.name in locate(entry, ()).paths


def refuse_others(wanted: Mapping[str, Wanted], entries: Iterable[Entry], manifests: Mapping[str, Manifest]) -> None:
    """Raises BakeError where a model that is not baked now was baked with another file at the place of a wanted one."""
    now = {entry.name for entry in entries}
    for name, manifest in manifests.items():
        for key, there in manifest.files.items() if name not in now else ():
            if key in wanted and wanted[key].file.sha256 not in (None, there.sha256):
                raise BakeError(
                    f"`{name}`, baked here before, has another file at {key}: sha256 {there.sha256}, and "
                    f"`{wanted[key].entry.name}` needs {wanted[key].file.sha256}; bake `{name}` with it"
                )


def _named(catalog: Catalog, name: str) -> Iterable[Entry]:
    if entry := catalog.find(name) or catalog.find_lora(name):
        return [entry]
    if family := FAMILIES.get(name.casefold()):
        kin = [model for model in catalog.models if model.family == family]
        return [model for model in kin if not all(in_package(model, file) for file in model.files)]
    try:
        return [catalog.resolve(name, ())]
    except UnknownModel as error:
        words = error.message.partition("; this worker")[0]
        raise BakeError(f"{words}; `python -m builder.bake --list` names all models and LoRAs") from None
