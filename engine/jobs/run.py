"""The whole story of a job: parse, find where the result goes, fetch, look, plan, process, verify, deliver, reply."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import Internal, JobError, NoDestination
from engine.frames import Frame
from engine.jobs import result, services
from engine.jobs.cancel import CancelToken
from engine.jobs.clock import Clock
from engine.jobs.desk import Desk
from engine.jobs.outputs import IMAGES
from engine.jobs.plan import Outline, demand_possible, outline
from engine.jobs.progress import Progress, Sink
from engine.jobs.requests import GenerateRequest, InfoRequest, OffloadRequest, UpscaleRequest, WarmRequest, parse
from engine.jobs.result import Reply
from engine.jobs.scratch import require_room, scratch_dir
from engine.jobs.watch import JobWatch
from engine.media.decode import open_media
from engine.media.encode import create
from engine.media.probe import probe
from engine.media.verify import OutputInfo, verify
from engine.notes import Note
from engine.pipelines.upscaler import Upscaler
from engine.storage.destinations import InlinePlace, Place

O = TypeVar("O")  # noqa: E741 - the options of a family of models
log = logging.getLogger(__name__)


def run(job: dict[str, Any], desk: Desk, token: CancelToken, sink: Sink) -> Reply:
    """Carry one job to its reply. Raises JobError for what its caller can act on."""
    match parse(job):
        case UpscaleRequest() as request:
            return upscale(request, str(job.get("id") or "job"), desk, token, Progress(sink))
        case GenerateRequest() as request:
            return services.generate(request, desk)
        case InfoRequest():
            return services.info(desk)
        case WarmRequest() as request:
            return services.warm(request, desk)
        case OffloadRequest():
            return services.offload(desk)


def upscale(request: UpscaleRequest, job_id: str, desk: Desk, token: CancelToken, progress: Progress) -> Reply:
    """A video or an image in, restored and enlarged out; or, for a dry run, what that would take."""
    clock = Clock(progress)
    token.limit(request.timeout_s)
    with scratch_dir(desk.settings.scratch_dir) as scratch, ExitStack() as stack:
        with clock("preflight"):
            model = desk.model(request.model)
            family = desk.family(model)
            demand_possible(request)
            request, remarks = family.settle(request)
            place = None if request.dry_run else _place(request, desk)
        with clock("download"):
            source = desk.fetch(request, scratch, token.check, progress.part)
        with clock("probe"):
            info = probe(source.path, desk.ceilings)
            plan = outline(request, model, info, source.name, desk.settings.max_output_pixels)
            place = place or _inline(request, plan)
            require_room(scratch, plan.least_bytes)
        if request.dry_run:
            with clock("estimate"):
                expected = desk.estimate(model, request, plan)
            notes = result.warnings([*remarks, *plan.notes, *expected.notes])
            facts = {**services.estimate(expected, plan), "stages": clock.stages, "warnings": notes}
            return result.upscale_reply(request, model, plan, facts)
        with clock("load"):
            upscaler = stack.enter_context(desk.upscaler(model, request.denoise_strength))
            options = family.options(request, plan.frames, desk.residency.free_bytes())
        with clock("process"):
            made = _process(request, source.path, plan, upscaler, options, scratch, token, progress)
        with clock("upload"):
            delivered = desk.deliverer.deliver(
                made.path,
                place,
                job_id=job_id,
                filename=plan.filename,
                content_type=made.info.content_type,
                expires_s=request.url_expires_s or desk.settings.url_expires_s,
                check=token.check,
                progress=progress.part,
            )
    facts = {
        "output": result.output_facts(made.info, delivered, plan.filename),
        **result.links(delivered),
        "plan": made.plan,
        "stages": clock.stages,
        "metrics": result.metrics(desk, clock, made.info.frames, upscaler.seconds),
        "warnings": result.warnings([*remarks, *plan.notes, *made.notes]),
    }
    desk.jobs_done += 1
    reply = result.upscale_reply(request, model, plan, facts)
    _leave_record(reply, place, job_id, desk)
    return reply


@dataclass(frozen=True, slots=True)
class Made:
    """A finished file on this machine, verified, and how it came about."""

    path: Path
    info: OutputInfo
    plan: Reply
    notes: tuple[Note, ...]


def _process(
    request: UpscaleRequest,
    source: Path,
    plan: Outline,
    upscaler: Upscaler[O],
    options: O,
    scratch: Path,
    token: CancelToken,
    progress: Progress,
) -> Made:
    """Stream the frames from the decoder's thread through the model to the encoder's, then prove the file."""
    path = scratch / f"result.{plan.filename.rpartition('.')[2]}"
    with (
        open_media(source, plan.info, plan.clip, allow_partial=request.allow_partial) as reader,
        create(path, plan.spec, (source, plan.info, plan.clip)) as writer,
    ):
        tally = Tally(reader.frames(), plan.info.fps)
        done = 0
        for frame in upscaler(tally, reader.raster, plan.target, options, JobWatch(token, progress, plan.frames)):
            token.check()
            writer.write(frame)
            done += 1
            progress.frames(done, plan.frames)
    if done != tally.count:
        raise Internal(f"{tally.count} frames went in and {done} came out")
    tracks = writer.audio_tracks  # what it could not take, it has told in its warnings
    out = verify(path, plan.spec, frames=tally.count, duration=tally.duration, audio_tracks=tracks)
    return Made(path, out, upscaler.plan.as_reply(), (*reader.warnings, *writer.warnings, *upscaler.notes))


class Tally:
    """Passes frames on and remembers how many there were and how long they last."""

    def __init__(self, frames: Iterable[Frame], fps: Fraction) -> None:
        self._frames = frames
        self._fps = fps
        self._first: Fraction | None = None
        self._end = Fraction(0)
        self.count = 0

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self._first = frame.time if self._first is None else self._first
            self._end = frame.time + (frame.duration or (1 / self._fps if self._fps else 0))
            self.count += 1
            yield frame

    @property
    def duration(self) -> Fraction:
        """Seconds from the first frame's begin to the last one's end."""
        return self._end - (self._first or 0)


def _place(request: UpscaleRequest, desk: Desk) -> Place | None:
    """Where the result goes, checked before anything is spent on it; None when nobody has said."""
    place = desk.place(request)
    if place is not None:
        desk.deliverer.check(place)
    elif (request.output_format or ("mp4" if request.media == "video" else "png")) not in IMAGES:
        raise _nowhere()
    return place


def _inline(request: UpscaleRequest, plan: Outline) -> Place:
    """The reply itself, for a picture that nobody has said a place for. Raises NoDestination for anything else."""
    if plan.spec.container in IMAGES or request.dry_run:
        return InlinePlace()
    raise _nowhere()


def _nowhere() -> NoDestination:
    return NoDestination(
        "the result has nowhere to go: neither this job nor this endpoint names a place",
        hint="set BUCKET_URL on the endpoint, or give `destination` (or `s3Config` beside `input`)",
        field="destination",
    )


def _leave_record(reply: Reply, place: Place, job_id: str, desk: Desk) -> None:
    """Lay the reply beside the result, so that an answer lost on its way can be found again."""
    try:
        desk.deliverer.deliver_json(json.dumps(reply, allow_nan=False).encode(), place, job_id=job_id)
    except JobError as error:
        log.warning("result.json was not delivered: %s", error.message)
        note = Note("RECORD_MISSING", "the result was delivered, result.json beside it was not")
        reply["warnings"] += result.warnings([note])
