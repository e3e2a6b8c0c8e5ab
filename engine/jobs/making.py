"""How the frames of a generate job come about: made by one model, and by another enlarged where that is asked for.

What was made is not lost where memory runs out while it is enlarged: then it is delivered as it is, and that is said.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.catalog import Model
from engine.errors import Internal, OutOfMemory, SourceCorrupt
from engine.frames import Frame, Raster
from engine.jobs import result
from engine.jobs.job import Job
from engine.jobs.plan import Outline
from engine.jobs.process import Made, Origin, Written, enlarge, write
from engine.jobs.script import Chain, Script
from engine.jobs.spool import Spool
from engine.jobs.timing import at_rate, retimed
from engine.jobs.watch import JobWatch
from engine.media.decode import open_media
from engine.media.info import Clip
from engine.notes import Note
from engine.pipelines.generator import Source
from engine.pipelines.protocol import Pipeline
from engine.pipelines.wan.limits import FPS

if TYPE_CHECKING:
    from engine.pipelines.wan.options import LoraFile

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Anew:
    """Frames that come from the first one on whenever they are asked for."""

    read: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        return self.read()


@dataclass(frozen=True, slots=True)
class Worked:
    """How a pipeline did its work, told before another takes its place in memory."""

    plan: dict[str, Any]
    seconds: Mapping[str, float]
    notes: tuple[Note, ...]

    @classmethod
    def of(cls, pipeline: Pipeline, *notes: Note) -> "Worked":
        return cls(pipeline.plan.as_reply(), dict(pipeline.seconds), (*notes, *pipeline.notes))


def demand_readable(script: Script, path: Path | None) -> None:
    """Raises SourceCorrupt where a source has no first frame, which is known long before a network is loaded."""
    with _opened(script, path) as (source, _):
        if source is not None:
            next(iter(source.frames), None)


def make(
    script: Script,
    model: Model,
    loras: "Sequence[LoraFile]",
    path: Path | None,
    job: Job,
) -> tuple[Made, Script]:
    """The result's file, and the script as it was carried out. path: of the source, if there is one."""
    origin, notes = _origin(script, path)
    plan, chain = script.plain, script.enlarged
    take_part = (script, model, loras, path, origin, job)
    if chain is None:
        worked, file, script = _generated(*take_part, lambda frames: write(frames, plan, origin, job))
        return _as_made(file, plan, {"plan": worked.plan}, worked, notes), script
    spool = Spool(job.scratch / "frames.raw", script.target)
    worked, _, script = _generated(*take_part, lambda frames: spool.fill(_told(frames, plan.frames, job)))
    try:
        after, file = _enlarged(chain, spool, origin, job)
    except OutOfMemory as error:
        notes.append(Note("UPSCALE_FAILED", f"the result is as it was made, for {error.message}"))
        notes += _other_codec(script)
    else:
        told = {"model": chain.model.name, "plan": after.plan, "phases": result.phases(after.seconds)}
        return _as_made(
            file, chain.plan, {"plan": worked.plan, "upscale": told}, worked, [*notes, *after.notes]
        ), script
    with job.clock("process"):
        file = write(_shown(spool, spool.raster, plan.target), plan, origin, job)
    return _as_made(file, plan, {"plan": worked.plan}, worked, notes), replace(script, enlarged=None)


def _as_made(file: Written, plan: Outline, facts: Mapping[str, Any], worked: Worked, notes: Sequence[Note]) -> Made:
    return Made(file.path, file.info, plan.filename, facts, worked.seconds, (*notes, *worked.notes, *file.notes))


def _other_codec(script: Script) -> Iterator[Note]:
    """A note where what was made is too small for the codec that its enlargement was asked for in."""
    asked, spec = script.request.codec, script.plain.spec
    if asked not in (None, spec.codec):
        size, bits = f"{spec.width}x{spec.height}", spec.pixel.bits
        yield Note("CODEC_CHANGED", f"{asked} cannot hold {size}, so the result is {spec.codec} in {bits} bits")


def _origin(script: Script, path: Path | None) -> tuple[Origin | None, list[Note]]:
    """The file that sound comes from: a video, where the result runs at its speed."""
    source = script.source
    if path is None or source is None or script.request.kind != "v2v":
        return None, []
    if script.plain.spec.fps == FPS:
        return (path, source, Clip(end=script.plain.frames / FPS)), []
    if source.audio and script.request.audio == "keep":
        text = f"at another rate than {FPS} the pictures run at another speed than the sound, which was left out"
        return None, [Note("AUDIO_DROPPED", text)]
    return None, []


def _generated(
    script: Script,
    model: Model,
    loras: "Sequence[LoraFile]",
    path: Path | None,
    origin: Origin | None,
    job: Job,
    take: Callable[[Iterator[Frame]], T],
) -> tuple[Worked, T, Script]:
    """Make the frames and hand them to `take`; the script with the prompt that guidance led away from.

    When this returns, nothing here holds the model any more.
    """
    desk, count = job.desk, script.plain.frames
    begin = origin[1].start if origin else Fraction(0)
    with ExitStack() as stack:
        with job.clock("load"):
            generator = stack.enter_context(desk.generator(model, job.token.check, job.progress.part))
            options = desk.generating(model).options(script.request, loras, desk.residency.free_bytes())
        with job.clock("process"), _opened(script, path) as (source, warnings):
            job.progress.expect_steps()
            frames = generator(source, script.target, options, JobWatch(job.token, job.progress, count))
            taken = take(retimed(_exactly(frames, count), script.plain.spec.fps, begin))
        return Worked.of(generator, *warnings), taken, _with_negative(script, generator.negative)


def _with_negative(script: Script, negative: str) -> Script:
    """The model's own `negative` is in effect where there is guidance and the caller named none."""
    request = script.request
    if request.guidance == 1 or request.negative_prompt is not None:
        return script
    return replace(script, request=request.model_copy(update={"negative_prompt": negative}))


@contextmanager
def _opened(script: Script, path: Path | None) -> Iterator[tuple[Source | None, list[Note]]]:
    """What is begun from, and what is noted while it is read. Raises SourceCorrupt."""
    if path is None or script.source is None:
        yield None, []
        return
    still = script.request.kind == "i2v"
    try:
        with open_media(path, script.source, Clip(max_frames=1) if still else Clip()) as reader:
            count = script.plain.frames
            frames = Anew(lambda: reader.frames() if still else at_rate(reader.frames(), FPS, count))
            yield Source(frames, reader.raster), reader.warnings
    except SourceCorrupt as error:
        error.hint = "send the whole file"  # an upscale may ask for a part of it instead
        raise


def _exactly(frames: Iterable[Frame], count: int) -> Iterator[Frame]:
    """All frames. Raises Internal at the end unless there were `count`."""
    made = 0
    for frame in frames:
        made += 1
        yield frame
    if made != count:
        raise Internal(f"{made} frames were made instead of {count}")


def _told(frames: Iterable[Frame], total: int, job: Job) -> Iterator[Frame]:
    """All frames, told and stoppable like those that go into the result."""
    for done, frame in enumerate(frames, 1):
        job.token.check()
        yield frame
        job.progress.frames(done, total)


def _enlarged(chain: Chain, spool: Spool, origin: Origin | None, job: Job) -> tuple[Worked, Written]:
    """The result, enlarged; where memory runs out, tried once more with all of it. Raises OutOfMemory."""
    with job.clock("upscale"):
        done = _attempt(chain, spool, origin, job)
        if done is None:
            job.desk.residency.offload()
            done = _attempt(chain, spool, origin, job)
        if done is None:
            raise OutOfMemory(f"enlarging it by `{chain.model.name}` did not fit into memory")
        return done


def _attempt(chain: Chain, spool: Spool, origin: Origin | None, job: Job) -> tuple[Worked, Written] | None:
    """None when memory ran out."""
    from engine.pipelines.devices import is_out_of_memory

    desk, request, plan = job.desk, chain.request, chain.plan
    loading = desk.upscaler(chain.model, request.denoise_strength, job.token.check, job.progress.part)
    try:
        with loading as upscaler:
            options = desk.upscaling(chain.model).options(request, plan.frames, desk.residency.free_bytes())
            file = enlarge(spool, spool.raster, plan, upscaler, options, origin, job)
            return Worked.of(upscaler), file
    except (OutOfMemory, RuntimeError, MemoryError) as error:
        if not isinstance(error, OutOfMemory) and not is_out_of_memory(error):
            raise
        log.warning("out of memory while enlarging: %s", error)
    return None


def _shown(frames: Iterable[Frame], raster: Raster, target: Raster) -> Iterator[Frame]:
    """The frames laid out as `target` is."""
    import torch

    from engine.pipelines.frames import from_rgb, to_rgb

    for frame in frames:
        yield from from_rgb(to_rgb([frame], raster, torch.device("cpu"), torch.float32), [frame], target)
