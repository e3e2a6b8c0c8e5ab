"""The whole story of a job: parse, find where the result goes, fetch, look, plan, process, verify, deliver, reply."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from engine.jobs import result, services
from engine.jobs.cancel import CancelToken
from engine.jobs.clock import Clock
from engine.jobs.delivery import deliver, find_place, inline_place
from engine.jobs.desk import Desk
from engine.jobs.generate import generate
from engine.jobs.job import Job
from engine.jobs.outputs import OutputFields
from engine.jobs.plan import demand_possible, outline
from engine.jobs.process import Made, enlarge
from engine.jobs.progress import CHAINED, STAGES, WARMING, Progress, Sink
from engine.jobs.requests import GenerateRequest, InfoRequest, OffloadRequest, UpscaleRequest, WarmRequest, parse
from engine.jobs.result import Reply
from engine.jobs.scratch import require_room, scratch_dir
from engine.media.decode import open_media
from engine.media.probe import probe


def run(job: dict[str, Any], desk: Desk, token: CancelToken, sink: Sink) -> Reply:
    """Carry one job to its reply. Raises JobError for what its caller can act on."""
    desk.take()
    job_id = str(job.get("id") or "job")
    match parse(job):
        case UpscaleRequest() as request:
            with _begun(request, job_id, desk, token, Progress(sink)) as work:
                return upscale(request, work)
        case GenerateRequest() as request:
            stages = CHAINED if request.upscale else STAGES
            with _begun(request, job_id, desk, token, Progress(sink, stages=stages)) as work:
                return generate(request, work)
        case InfoRequest():
            return services.info(desk)
        case WarmRequest() as request:
            return services.warm(request, desk, token, Progress(sink, stages=WARMING))
        case OffloadRequest():
            return services.offload(desk)


@contextmanager
def _begun(request: OutputFields, job_id: str, desk: Desk, token: CancelToken, progress: Progress) -> Iterator[Job]:
    """A job with its clocks running and a folder of its own."""
    clock = Clock(progress)
    token.limit(request.timeout_s)
    with scratch_dir(desk.settings.scratch_dir) as scratch:
        yield Job(job_id, desk, token, progress, clock, scratch)


def upscale(request: UpscaleRequest, job: Job) -> Reply:
    """A video or an image in, restored and enlarged out; or, for a dry run, what that would take."""
    desk, clock, token, progress = job.desk, job.clock, job.token, job.progress
    with ExitStack() as stack:
        with clock("preflight"):
            model = desk.model(request.model)
            family = desk.upscaling(model)
            demand_possible(request)
            request, remarks = family.settle(request)
            likely = request.output_format or ("mp4" if request.media == "video" else "png")
            place = None if request.dry_run else find_place(request, desk, likely)
        with clock("download"):
            source = desk.fetch(request.source, request.source_base64, job.scratch, token.check, progress.part)
        with clock("probe"):
            info = probe(source.path, desk.ceilings)
            plan = outline(request, model, info, source.name, desk.settings.max_output_pixels)
            place = place or inline_place(request, plan)
            require_room(job.scratch, plan.least_bytes)
        if request.dry_run:
            with clock("estimate"):
                expected = desk.estimate(model, request, plan)
            notes = result.warnings([*remarks, *plan.notes, *expected.notes])
            facts = services.estimate(plan, plan.frames, [expected]) | {"plan": expected.plan.as_reply()}
            facts |= {"stages": clock.stages, "warnings": notes}
            return result.upscale_reply(request, model, plan, facts)
        with clock("load"):
            loading = desk.upscaler(model, request.denoise_strength, token.check, progress.part)
            upscaler = stack.enter_context(loading)
            options = family.options(request, plan.frames, desk.residency.free_bytes())
        with clock("process"), open_media(source.path, info, plan.clip, allow_partial=request.allow_partial) as reader:
            origin = (source.path, info, plan.clip)
            file = enlarge(reader.frames(), reader.raster, plan, upscaler, options, origin, job)
        made = Made(
            file.path,
            file.info,
            plan.filename,
            facts={"plan": upscaler.plan.as_reply()},
            seconds=upscaler.seconds,
            notes=(*remarks, *plan.notes, *reader.warnings, *file.notes, *upscaler.notes),
        )
        return deliver(job, request, place, made, lambda facts: result.upscale_reply(request, model, plan, facts))
