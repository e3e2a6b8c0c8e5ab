"""What tests of reading share: generous ceilings and a whole source read at once."""

from pathlib import Path

from engine.frames import Frame
from engine.media.decode import Reader, open_media
from engine.media.probe import Ceilings, Clip, MediaInfo, probe

CEILINGS = Ceilings(seconds=7200, frames=500_000, pixels=8192 * 8192)


def read(path: Path, clip: Clip | None = None, **options: bool) -> tuple[MediaInfo, list[Frame], Reader]:
    """Probe and read to the end."""
    info = probe(path, CEILINGS)
    with open_media(path, info, clip or Clip(), **options) as reader:
        return info, list(reader.frames()), reader
