"""Is this machine fit for its jobs? The quick checks that a worker makes before it takes any, one finding each.

They are ours instead of the SDK's, which give up a good worker over a large image, a firewall or a slow first kernel.
What is read of a weight file is its beginning; `builder.smoke` goes on from here with digests and a tiny inference.
"""

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from engine.amounts import number_of_files, size
from engine.catalog import File, Model, locate
from engine.errors import JobError
from engine.jobs.desk import Desk
from engine.jobs.scratch import scratch_dir
from engine.manifests import Baked, NotAManifest, manifest_path, read
from engine.media.outputs import encoder_name
from engine.residency import MIB, free_host_bytes

# A few seconds of 4K with their source, or one picture of the largest size: with less, even small jobs find the disk
# full. What a larger job needs, it asks for itself.
SCRATCH_BYTES = 256 * MIB
GPU_FILES = (Path("/dev/nvidiactl"), Path("/dev/nvidia0"))  # there where a container was given a GPU
DEFAULT_CODEC = "h264"


class Unfit(Exception):
    """Something that a worker cannot do without is missing or broken: one sentence for its operator."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check. subject: a model, or a part of the machine. passed: None where it was not made."""

    subject: str
    check: str
    text: str
    passed: bool | None = True

    def __str__(self) -> str:
        return f"{self.subject}  {self.check}  {self.text}"


def examine(desk: Desk) -> Iterator[Finding]:
    """The machine, then each model that the worker offers."""
    settings = desk.settings
    yield made("device", "usable", lambda: device(settings.device))
    yield made("scratch folder", "writable", lambda: scratch(settings.scratch_dir))
    yield made("encoder", DEFAULT_CODEC, lambda: encoder_name(DEFAULT_CODEC))
    if not settings.models:
        yield Finding("MODELS", "name", "the setting names no model", passed=False)
    for name in settings.models:
        model = desk.catalog.find(name)
        if model is None:
            yield made(name, "name", partial(named, name, desk))
        else:
            yield from examine_model(model, desk)


def examine_model(model: Model, desk: Desk) -> Iterator[Finding]:
    """Whether its files are whole, and its networks what they should be."""
    found = made(model.name, "files", lambda: files(model, desk.settings.models_dir))
    yield found
    if found.passed:
        yield made(model.name, "networks", lambda: networks(model, desk))


def made(subject: str, check: str, look: Callable[[], str]) -> Finding:
    """The finding of one check: what `look` says, or what it raises."""
    try:
        return Finding(subject, check, look())
    except (Unfit, JobError, OSError) as error:
        return Finding(subject, check, str(error), passed=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, it would befall the first job, too
        kind = type(error).__name__
        text = str(error) if kind == "CheckpointMismatch" else f"{kind}: {error}"  # which tells its file by itself
        return Finding(subject, check, text, passed=False)


def device(wanted: str) -> str:
    """The device that the setting DEVICE asks for. Raises Unfit where it cannot be used.

    A GPU that was given to the container and cannot be used is no reason to compute for hours on its processor:
    `auto` falls back only where there is none.
    """
    import torch

    given = any(path.exists() for path in GPU_FILES) and torch.version.cuda is not None
    if wanted == "cpu" or (wanted == "auto" and not given and not torch.cuda.is_available()):
        return f"cpu, {torch.get_num_threads()} threads, {size(free_host_bytes())} free"
    build = f"torch {torch.__version__} (for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs'})"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        raise Unfit(
            f"DEVICE={wanted}, and {build} can use no GPU here: {str(error).splitlines()[0]} (DEVICE=cpu does without)"
        ) from error
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    if not runs_on(capability, built):
        raise Unfit(f"{name} has compute capability {_dotted(capability)}; {build} has kernels for {', '.join(built)}")
    free, total = torch.cuda.mem_get_info()
    return f"{name}, capability {_dotted(capability)}, {size(free)} of {size(total)} free, {build}"


def runs_on(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Whether a GPU has a kernel among the `built` ones: `sm_86` is for 8.6 and later of 8, `compute_86` for all later.

    One for a single architecture (`sm_90a`) or family (`sm_120f`) is counted as the plain one of that number.
    """
    for name in built:
        kind, _, number = name.rstrip("af").partition("_")
        major, minor = divmod(int(number), 10)
        if (major, minor) <= capability and (kind == "compute" or major == capability[0]):
            return True
    return False


def scratch(root: Path | None) -> str:
    """Whether a job's folder can be made and written there, with room for a small job. Raises Unfit, OSError."""
    with scratch_dir(root) as folder:
        (folder / "written").write_bytes(b"\0")
        free = shutil.disk_usage(folder).free
        place = folder.parent
    if free < SCRATCH_BYTES:
        raise Unfit(
            f"{place} has {size(free)} left and even a small job takes {size(SCRATCH_BYTES)}: give the endpoint a "
            "larger container disk, or name another folder in SCRATCH_DIR"
        )
    return f"{place}, {size(free)} free"


def named(name: str, desk: Desk) -> str:
    """The catalog's own name of a model that the worker offers. Raises UnknownModel."""
    return desk.catalog.resolve(None, (name,)).name


def files(model: Model, folders: Sequence[Path]) -> str:
    """Whether all its files are there, each of its size. Raises Unfit, which tells where was looked."""
    located = locate(model, folders)
    if missing := [file for file in located.missing if not file.optional]:
        sizeless = replace(model, files=tuple(replace(file, bytes=None) for file in model.files))
        others = locate(sizeless, folders).paths
        told = "; ".join(_lack(file, others.get(file.name)) for file in missing)
        here = len(located.paths)
        places = ", ".join(map(str, folders))
        raise Unfit(f"{told}; {here} of its {number_of_files(here + len(missing))} are here; looked in {places}")
    paths = located.paths.values()
    agreed = _agreed(model, set(paths), folders)
    told = f"{number_of_files(len(paths))}, {size(sum(path.stat().st_size for path in paths))}"
    return told + (f", {agreed} as baked" if agreed else "")


def networks(model: Model, desk: Desk) -> str:
    """Whether every tensor of every network has its place and its shape. Raises CheckpointMismatch, OSError."""
    desk.check(model)
    return "every tensor has its place"


def manifests(model: Model, folders: Sequence[Path]) -> Iterator[tuple[str, Path, Baked]]:
    """The files that manifests of the model list: key, place and what is said of each. Raises Unfit."""
    for folder in folders:
        path = manifest_path(folder, model.name)
        if not path.is_file():
            continue
        try:
            listed = read(path).files
        except NotAManifest as error:
            raise Unfit(str(error)) from error
        yield from ((key, folder / key, baked) for key, baked in listed.items())


def _agreed(model: Model, paths: Collection[Path], folders: Sequence[Path]) -> int:
    """How many of the files a manifest lists. Raises Unfit where it tells of another file than is there."""
    known = {file.key: file.sha256 for file in model.files}
    agreed = 0
    for key, path, told in manifests(model, folders):
        if path not in paths:  # an earlier folder has it
            continue
        if (there := path.stat().st_size) != told.bytes:
            raise Unfit(f"{path} has {there:,} bytes and its manifest says {told.bytes:,}; bake the model again")
        published = {key: told.sha256} | dict(told.converted_from or {})
        if any(known.get(name) not in (None, digest) for name, digest in published.items()):
            raise Unfit(f"{path} was baked with another digest than the catalog's; bake the model again")
        agreed += 1
    return agreed


def _lack(file: File, other: Path | None) -> str:
    if other is None:
        return f"{file.key} is missing"
    return f"{other} has {other.stat().st_size:,} bytes, not the {file.bytes:,} of {file.key}"


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
