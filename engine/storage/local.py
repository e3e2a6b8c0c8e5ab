"""Files of this machine that a job may name: those under the allowed roots, wherever symbolic links lead."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.errors import InvalidInput, Problem, SourceForbidden, SourceNotFound, SourceUnsupported
from engine.storage.names import safe_name
from engine.storage.sources import Fetched, Limits

RULE = (
    "a path must lie under one of this worker's allowed folders (LOCAL_ROOTS; on RunPod the network volume "
    "/runpod-volume)"
)


def local_source(address: str, limits: Limits) -> Fetched:
    """A local file, used where it lies. Raises InvalidInput, SourceForbidden, SourceNotFound, SourceUnsupported."""
    path = inside(_path_of(address), limits.roots)
    if path is None:
        raise SourceForbidden(RULE, field="source")
    try:
        size = path.stat().st_size if path.exists() else None
    except PermissionError:
        raise SourceForbidden("the worker may not read this file", field="source") from None
    if size is None:
        raise SourceNotFound("there is no such file under the allowed folders", field="source")
    if not path.is_file():
        raise SourceUnsupported("the path names something that is not a file", field="source")
    limits.demand_fit(size)
    return Fetched(path, safe_name(path.name), size)


def inside(path: str, roots: Sequence[Path], field: str = "source") -> Path | None:
    """The path with every link followed, if it lies under a root; a relative one is looked for in each root in turn."""
    homes = [root.resolve() for root in roots]
    try:
        found = [(home / path).resolve() for home in homes]
        known = [p for p in found if any(p.is_relative_to(home) for home in homes)]
        return next((p for p in known if p.exists()), known[0] if known else None)
    except (ValueError, OSError, RuntimeError):  # a NUL, a name that is too long, links in a circle
        raise InvalidInput([Problem(field, "is not a usable path")]) from None


def _path_of(address: str) -> str:
    if not address.lower().startswith("file:"):
        return address
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise InvalidInput([Problem("source", "names a file of another machine; use file:///path")])
    return unquote(parts.path)
