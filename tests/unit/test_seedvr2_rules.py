"""What SeedVR2 makes of batches, overlaps and tiles: the values in effect, and a note for each that was changed."""

from typing import Any

import pytest

from engine.errors import InvalidInput
from engine.jobs.families import FAMILIES
from engine.jobs.requests import UpscaleRequest, parse
from engine.jobs.seedvr2_rules import settled
from engine.notes import Note
from engine.pipelines.seedvr2.options import SeedVR2Options


def asked(**fields: Any) -> UpscaleRequest:
    request = parse({"input": {"source": "a", **fields}})
    assert isinstance(request, UpscaleRequest)
    return request


@pytest.mark.parametrize(("given", "used"), [(1, 1), (2, 1), (4, 1), (5, 5), (6, 5), (8, 5), (9, 9), (10_000, 9997)])
def test_a_batch_is_rounded_down_to_4n_plus_1(given: int, used: int) -> None:
    request, notes = settled(asked(batch_size=given))
    assert request.batch_size == used
    note = Note("BATCH_ROUNDED", f"batch_size {given} was rounded to {used} (4n+1)")
    assert notes == (() if given == used else (note,))


def test_what_is_left_to_the_plan_stays_so() -> None:
    request, notes = settled(asked())
    assert (request.batch_size, request.temporal_overlap, notes) == ("auto", "auto", ())
    request, notes = settled(asked(temporal_overlap=7))
    assert (request.batch_size, request.temporal_overlap, notes) == ("auto", 7, ())


@pytest.mark.parametrize(("batch", "given", "used"), [(5, 2, 2), (5, 3, 2), (5, 4, 2), (9, 5, 4), (1, 0, 0)])
def test_no_more_than_half_a_batch_is_shared(batch: int, given: int, used: int) -> None:
    request, notes = settled(asked(batch_size=batch, temporal_overlap=given))
    assert request.temporal_overlap == used
    assert [note.code for note in notes] == ([] if given == used else ["OVERLAP_REDUCED"])
    assert all(f"temporal_overlap {given} was reduced to {used}" in note.message for note in notes)


@pytest.mark.parametrize(("batch", "overlap", "rounded"), [(8, 5, 5), (7, 6, 5), (4, 1, 1)])
def test_an_overlap_that_is_not_below_the_rounded_batch_is_refused(batch: int, overlap: int, rounded: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        settled(asked(batch_size=batch, temporal_overlap=overlap))
    sentence = f"must be less than `batch_size`, which was rounded from {batch} to {rounded} (4n+1), not {overlap}"
    assert [(problem.field, problem.text) for problem in caught.value.problems] == [("temporal_overlap", sentence)]


def test_frames_that_stand_alone_share_nothing() -> None:
    given = {"temporal_overlap": 3, "uniform_batch_size": True, "prepend_frames": 4}
    request, notes = settled(asked(temporal=False, batch_size=5, **given))
    assert (request.temporal_overlap, request.uniform_batch_size, request.prepend_frames) == (0, False, 0)
    assert [note.code for note in notes] == ["FIELD_IGNORED"] * 3
    assert [note.message.split("`")[1] for note in notes] == list(given)
    assert settled(asked(temporal=False, uniform_batch_size=False, temporal_overlap="auto"))[1] == ()


def test_every_field_reaches_the_pipeline() -> None:
    family = FAMILIES["seedvr2"]
    request, _ = family.settle(asked())
    assert family.options(request, 75, 2**30) == SeedVR2Options(free_bytes=2**30, frames=75)
    fields: dict[str, Any] = {
        "batch_size": 9,
        "temporal_overlap": 3,
        "temporal": True,
        "uniform_batch_size": True,
        "prepend_frames": 2,
        "input_noise_scale": 0.25,
        "latent_noise_scale": 0.5,
        "color_correction": "hsv",
        "seed": 7,
        "strength": 0.75,
        "vae_tiling": "on",
    }
    request, _ = family.settle(asked(**fields, vae_quality="low"))
    assert family.options(request, 75, 2**30) == SeedVR2Options(
        free_bytes=2**30, frames=75, vae_tile=512, vae_overlap=64, **fields
    )
