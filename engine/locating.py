"""Where the files of a model or LoRA lie on this machine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.entries import File, Lora, Model, Source

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Located:
    """The files of a model or LoRA on this machine, by name, and those that are not there."""

    paths: Mapping[str, Path]
    missing: tuple[File, ...]


def locate(model: Model | Lora, folders: Iterable[Path]) -> Located:
    """Where its files lie: in `folders`, in the Hugging Face caches there, or in the package itself.

    What several models share may also lie beside the network, whose repository often holds a copy. A file of another
    size than the published one is another file. `converted/<name>.safetensors` in a folder stands for the network
    whole: its first file is found there, and its other shards are neither found nor missing.
    """
    places, network, wanted = [*folders, DATA], model.files[0], model.files
    found: dict[str, Path] = {}
    if isinstance(model, Model) and (converted := _converted(model, places)) is not None:
        found[network.name] = converted
        wanted = (network, *(file for file in wanted if file.role != network.role))
    for file in wanted:
        if file.name not in found and (path := _find_file(file, network.source, places)) is not None:
            found[file.name] = path
    return Located(found, tuple(file for file in wanted if file.name not in found))


def _converted(model: Model, folders: Iterable[Path]) -> Path | None:
    """The converted network, unless a folder before it holds the published one."""
    for folder in folders:
        if (path := folder / "converted" / f"{model.name}.safetensors").is_file():
            return path
        if _find_file(model.files[0], model.files[0].source, [folder]) is not None:
            return None
    return None


def _find_file(file: File, network: Source, folders: Iterable[Path]) -> Path | None:
    for folder in folders:
        for path in _places(file, network, folder):
            if path.is_file() and file.bytes in (None, path.stat().st_size):
                return path
    return None


def _places(file: File, network: Source, folder: Path) -> Iterator[Path]:
    yield folder / file.key
    for repo, revision, path in dict.fromkeys(_published(file, network)):
        owner, _, name = repo.partition("/")
        yield folder / name / path
        cached = folder / f"models--{owner}--{name}" / "snapshots"
        yield cached / str(revision) / path
        if cached.is_dir():
            yield from (snapshot / path for snapshot in sorted(cached.iterdir()))


def _published(file: File, network: Source) -> Iterator[tuple[str, str | None, str]]:
    """Repositories that have the file, with a revision where that is known, and its place there."""
    for source in (file.source, network):
        if source.repo is not None:
            yield source.repo, source.revision, file.path
    for copy in file.copies:
        owner, name, path = copy.split("/", 2)
        yield f"{owner}/{name}", None, path
