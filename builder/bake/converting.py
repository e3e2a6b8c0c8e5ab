"""`--convert`: one file in place of a model's network, in the form that loads fastest."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from builder.bake.errors import BakeError, trouble
from builder.bake.progress import Display
from builder.bake.wanted import Entry
from builder.bake.weighing import digest
from engine.amounts import size
from engine.catalog import File, Model
from engine.entries import BITS
from engine.errors import JobError
from engine.manifests import Baked

FORM = "1"  # of what `builder.convert` writes: another one where the same published files would give other bytes


def demand_converter() -> None:
    """Raises BakeError where `builder.convert` cannot run, which alone of all here needs torch."""
    try:
        import builder.convert  # noqa: F401
    except ImportError as error:
        raise BakeError(f"--convert needs torch and the engine's other packages: {error}") from error


def converted_key(entry: Entry) -> str:
    """Where the converted network of a model lies, and its key in the manifest."""
    return f"converted/{entry.name}.safetensors"


def own_files(entry: Entry) -> tuple[File, ...]:
    """The files that a converted one stands for."""
    return entry.network if isinstance(entry, Model) else ()


def current(made: Baked, published: Iterable[File]) -> bool:
    """True for a network that was converted from those very files, to the form that is written now."""
    origin = made.converted_from or {}
    wanted = {file.key: file.sha256 or origin.get(file.key) for file in published}
    return made.converted_form == FORM and wanted == origin


def room(entry: Entry) -> int:
    """About how many bytes its converted network takes; 0 where weights are packed, or are in their fastest form."""
    if not isinstance(entry, Model) or BITS.get(entry.precision, 16.0) < 16:
        return 0
    return 0 if entry.precision == "BF16" and len(entry.network) == 1 else 2 * entry.parameters


def convert(entry: Model, folder: Path, files: Mapping[str, Baked], display: Display) -> dict[str, Baked]:
    """A model's files, its network converted where there is something to gain.

    The published ones stay. Raises BakeError; then all is as it was.
    """
    from builder.convert import NothingToGain
    from builder.convert import convert as converter
    from engine.weights.load import CheckpointMismatch

    paths = {file.name: folder / file.key for file in entry.files if file.key in files}
    key, network = converted_key(entry), {file.key: files[file.key] for file in entry.network}
    try:
        with display.follow(f"{entry.name} (converting)") as progress:
            path = converter(entry, paths, folder, progress=progress)
        found = Baked(
            path.stat().st_size,
            digest(path),
            entry.licence,
            converted_from={key: each.sha256 for key, each in network.items()},
            converted_form=FORM,
        )
    except NothingToGain as error:
        display.say(f"{entry.name}: {error}")
        return dict(files)
    except (JobError, CheckpointMismatch) as error:
        raise BakeError(f"{entry.name}: cannot be converted: {error}; its published files stay") from error
    except OSError as error:
        raise BakeError(
            f"{entry.name}: cannot be converted: {trouble(error, folder)}; its published files stay"
        ) from error
    display.say(f"{key}: {size(found.bytes)} in place of {size(sum(each.bytes for each in network.values()))}")
    return {key: each for key, each in files.items() if key not in network} | {key: found}
