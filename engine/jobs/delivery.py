"""How every job that makes a file ends: where that goes is known first, then it goes there, and the reply beside it."""

import json
import logging
from collections.abc import Callable

from engine.errors import JobError, NoDestination
from engine.jobs import result
from engine.jobs.desk import Desk
from engine.jobs.job import Job
from engine.jobs.outputs import IMAGES, OutputFields
from engine.jobs.plan import Outline
from engine.jobs.process import Made
from engine.jobs.result import Reply
from engine.notes import Note
from engine.storage.destinations import InlinePlace, Place

log = logging.getLogger(__name__)


def find_place(request: OutputFields, desk: Desk, container: str) -> Place | None:
    """Where the result goes, checked before anything is spent on it; None when nobody has said.

    container: what it will probably be. Raises NoDestination where only a picture could do without a place.
    """
    place = desk.place(request)
    if place is not None:
        desk.deliverer.check(place)
    elif container not in IMAGES:
        raise _nowhere()
    return place


def inline_place(request: OutputFields, plan: Outline) -> Place:
    """The reply itself, for a picture that nobody has said a place for. Raises NoDestination for anything else."""
    if plan.spec.container in IMAGES or request.dry_run:
        return InlinePlace()
    raise _nowhere()


def deliver(job: Job, request: OutputFields, place: Place, made: Made, reply: Callable[[Reply], Reply]) -> Reply:
    """Put what was made where it goes, and the reply beside it. `reply` frames the facts as its action does."""
    desk = job.desk
    with job.clock("upload"):
        delivered = desk.deliverer.deliver(
            made.path,
            place,
            job_id=job.id,
            filename=made.filename,
            content_type=made.info.content_type,
            expires_s=request.url_expires_s or desk.settings.url_expires_s,
            check=job.token.check,
            progress=job.progress.part,
        )
    facts = {
        "output": result.output_facts(made.info, delivered, made.filename),
        **result.links(delivered),
        **made.facts,
        "stages": job.clock.stages,
        "metrics": result.metrics(desk, job.clock, made.info.frames, made.seconds),
        "warnings": result.warnings(made.notes),
    }
    told = reply(facts)
    _leave_record(told, place, job)
    return told


def _nowhere() -> NoDestination:
    return NoDestination(
        "the result has nowhere to go: neither this job nor this endpoint names a place",
        hint="set BUCKET_URL on the endpoint, or give `destination` (or `s3Config` beside `input`)",
        field="destination",
    )


def _leave_record(reply: Reply, place: Place, job: Job) -> None:
    """Lay the reply beside the result, so that an answer lost on its way can be found again."""
    try:
        job.desk.deliverer.deliver_json(json.dumps(reply, allow_nan=False).encode(), place, job_id=job.id)
    except JobError as error:
        log.warning("result.json was not delivered: %s", error.message)
        note = Note("RECORD_MISSING", "the result was delivered, result.json beside it was not")
        reply["warnings"] += result.warnings([note])
