"""What goes wrong while baking, in words."""

import errno
from pathlib import Path

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class BakeError(Exception):
    """What went wrong, in one sentence for a person: which file, expected and got, where to look."""


def shown(place: str) -> str:
    """A path as it is; an address without what may be secret in it: a password, a signature."""
    scheme, mark, rest = place.partition("://")
    if not mark:
        return place
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def trouble(error: OSError, folder: Path) -> str:
    """What an error of the disk means for a folder that files are baked into, and the way out."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_room(folder)
    if error.errno in READ_ONLY:
        return f"{folder} cannot be written to ({error.strerror}); name another folder by --into"
    return f"the disk failed at {error.filename or folder}: {error.strerror}"


def no_room(folder: Path) -> str:
    """What a full disk means."""
    return f"no space is left at {folder}; what has come stays there, make room and run again to go on"
