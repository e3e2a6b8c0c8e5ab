"""What SeedVR2 makes of a valid request: batches of 4n+1 frames, overlaps that leave each batch frames of its own."""

from typing import Any

from engine.errors import InvalidInput, Problem
from engine.jobs.requests import UpscaleRequest
from engine.notes import Note

BETWEEN_FRAMES: dict[str, Any] = {  # fields that mean nothing where every frame stands alone, and their value then
    "temporal_overlap": 0,
    "uniform_batch_size": False,
    "prepend_frames": 0,
}


def settled(request: UpscaleRequest) -> tuple[UpscaleRequest, tuple[Note, ...]]:
    """The request with the values in effect, and a note for each that is not what was asked for.

    Raises InvalidInput where the overlap is not less than the rounded batch.
    """
    changes: dict[str, Any] = dict(zip(("vae_tile_size", "vae_tile_overlap"), request.vae_tiles, strict=True))
    notes: list[Note] = []
    batch, overlap = request.batch_size, request.temporal_overlap
    if request.temporal and isinstance(batch, int) and (rounded := (batch - 1) // 4 * 4 + 1) != batch:
        notes.append(Note("BATCH_ROUNDED", f"batch_size {batch} was rounded to {rounded} (4n+1)"))
        changes["batch_size"] = batch = rounded
    if not request.temporal:
        notes += _meaningless(request)
        changes |= BETWEEN_FRAMES
    elif isinstance(batch, int) and isinstance(overlap, int) and overlap > batch // 2:
        if overlap >= batch:
            text = f"must be less than `batch_size`, which was rounded from {request.batch_size} to {batch} (4n+1)"
            raise InvalidInput([Problem("temporal_overlap", f"{text}, not {overlap}")])
        text = (
            f"temporal_overlap {overlap} was reduced to {batch // 2}: no more than half of batch_size {batch} is shared"
        )
        notes.append(Note("OVERLAP_REDUCED", text))
        changes["temporal_overlap"] = batch // 2
    return request.model_copy(update=changes), tuple(notes)


def _meaningless(request: UpscaleRequest) -> list[Note]:
    """A note for every field that was given and differs from what `temporal: false` makes of it."""
    return [
        Note("FIELD_IGNORED", f"`{name}` means nothing with `temporal: false`, so it was ignored")
        for name, value in BETWEEN_FRAMES.items()
        if getattr(request, name) not in (value, "auto")
    ]
