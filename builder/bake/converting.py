"""`--convert`: one file in place of a model's network, in the form that loads fastest."""

from collections.abc import Callable, Mapping
from pathlib import Path

from builder.bake.manifests import Baked
from builder.bake.progress import Display
from builder.bake.wanted import Entry
from builder.bake.weighing import digest
from builder.bake.wording import BakeError, size
from engine.catalog import File, Model
from engine.errors import JobError

Convert = Callable[..., Path]


def load_converter() -> Convert:
    """`builder.convert`, which alone of all here needs torch. Raises BakeError."""
    try:
        from builder.convert import convert
    except ImportError as error:
        raise BakeError(f"--convert needs torch and the engine's other packages: {error}") from error
    return convert


def converted_key(entry: Entry) -> str:
    """Where the converted network of a model lies, and its key in the manifest."""
    return f"converted/{entry.name}.safetensors"


def own_files(entry: Entry) -> tuple[File, ...]:
    """The files that a converted one stands for."""
    return entry.network if isinstance(entry, Model) else ()


def convert(
    entry: Entry, folder: Path, files: Mapping[str, Baked], shared: set[str], converter: Convert, display: Display
) -> dict[str, Baked]:
    """A model's files with its network converted and the originals gone that nothing in `shared` needs.

    Raises BakeError; then everything is as it was.
    """
    from builder.convert import NothingToGain
    from engine.weights.load import CheckpointMismatch

    paths = {file.name: folder / files[file.key].path for file in entry.files if file.key in files}
    before = sum(files[file.key].bytes for file in own_files(entry))
    try:
        with display.follow(f"{entry.name} (converting)") as progress:
            path = converter(entry, paths, folder, progress=progress)
    except NothingToGain as error:
        display.say(f"{entry.name}: {error}")
        return dict(files)
    except (JobError, CheckpointMismatch) as error:
        raise BakeError(f"{entry.name}: cannot be converted: {error}; its published files stay") from error
    made = Baked(converted_key(entry), path.stat().st_size, digest(path), own_files(entry)[0].source.licence)
    display.say(f"{made.path}: {size(made.bytes)} in place of {size(before)}")
    for file in own_files(entry):
        if file.key not in shared:
            (folder / files[file.key].path).unlink(missing_ok=True)  # another bake may have done so
    kept = {key: each for key, each in files.items() if key not in {file.key for file in own_files(entry)}}
    return kept | {made.path: made}
