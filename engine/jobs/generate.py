"""The story of a job that makes video: check, fetch and look where there is a source, plan, make, deliver, reply."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from engine.catalog import Model
from engine.errors import JobError
from engine.jobs import result, services
from engine.jobs.delivery import deliver, find_place, inline_place
from engine.jobs.generate_rules import settled, source_field
from engine.jobs.job import Job
from engine.jobs.loras import find_loras, lora_files
from engine.jobs.making import demand_readable, make
from engine.jobs.plan import demand_possible
from engine.jobs.requests import GenerateRequest
from engine.jobs.result import Reply
from engine.jobs.scratch import require_room
from engine.jobs.script import Script, draw_up, find_chained
from engine.jobs.spool import Spool
from engine.media.info import MediaInfo
from engine.media.probe import probe
from engine.notes import Note

Sought = tuple[Path, MediaInfo, str]
"""A source on this machine, what it is, and its name."""


def generate(request: GenerateRequest, job: Job) -> Reply:
    """A prompt, and perhaps an image or a video, in; a video out; or, for a dry run, what that would take."""
    desk, clock = job.desk, job.clock
    with clock("preflight"):
        model = desk.model(request.model, request.kind)
        loras = find_loras(request, model, desk)
        request, remarks = settled(request, loras)
        demand_possible(request)
        chained = find_chained(request, desk)
        place = None if request.dry_run else find_place(request, desk, _likely_container(request))
    path, info, name = _source(request, job) or (None, None, "")
    with clock("plan"):
        script = draw_up(request, model, loras, chained, info, name, desk.settings.max_output_pixels)
        place = place or inline_place(request, script.final)
        require_room(job.scratch, _least_bytes(script))
        demand_readable(script, path)
    remarks = (*remarks, *script.notes)
    if request.dry_run:
        return _estimated(script, model, remarks, job)
    made, script = make(script, model, lora_files(request, loras, desk), path, job)
    made = replace(made, notes=(*remarks, *made.notes))
    return deliver(job, request, place, made, lambda facts: result.generate_reply(script, model, facts))


def _likely_container(request: GenerateRequest) -> str:
    """What the result will be written as; a video that is not known yet may hold one frame."""
    one = request.frames in (1, None) and request.codec is None
    return request.output_format or ("png" if one else "mp4")


def _source(request: GenerateRequest, job: Job) -> Sought | None:
    """What the video begins from, fetched and looked at."""
    field = source_field(request)
    if not field:
        return None
    given = getattr(request, field)
    address, base64 = (None, given) if field.endswith("base64") else (given, None)
    with job.clock("download"), _told_of(field):
        fetched = job.desk.fetch(address, base64, job.scratch, job.token.check, job.progress.part)
    with job.clock("probe"), _told_of(field):
        return fetched.path, probe(fetched.path, job.desk.ceilings), fetched.name


@contextmanager
def _told_of(field: str) -> Iterator[None]:
    """Storage and media call whatever they are given `source`: a caller is told the field that it was given by."""
    try:
        yield
    except JobError as error:
        error.field = field if error.field == "source" else error.field
        raise


def _least_bytes(script: Script) -> int:
    """What the job's files take, at least: the result and, where it is enlarged, the frames before that."""
    spooled = Spool.bytes_for(script.target, script.plain.frames) if script.enlarged else 0
    return script.final.least_bytes + spooled


def _estimated(script: Script, model: Model, remarks: Sequence[Note], job: Job) -> Reply:
    """The reply to a dry run: of both models, where two are to work one after the other."""
    raster = None if script.source is None else script.source.raster
    chain = script.enlarged
    with job.clock("estimate"):
        first = job.desk.estimate_generation(model, script.request, raster)
        then = job.desk.estimate(chain.model, chain.request, chain.plan) if chain else None
    both = [first] if then is None else [first, then]
    facts = services.estimate(script.final, script.frames_in, both) | {"plan": first.plan.as_reply()}
    if chain and then:
        facts["upscale"] = {"model": chain.model.name, "plan": then.plan.as_reply()}
    notes = [*remarks, *(note for each in both for note in each.notes)]
    facts |= {"stages": job.clock.stages, "warnings": result.warnings(notes)}
    return result.generate_reply(script, model, facts)
