"""The reply's shape: facts of the source, of the result and of how it came about, as the contract names them."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any

from engine.catalog import Model
from engine.jobs.clock import Clock
from engine.jobs.desk import Desk
from engine.jobs.generate_rules import ONLY_OF
from engine.jobs.plan import Outline
from engine.jobs.requests import UpscaleRequest
from engine.jobs.script import Script
from engine.jobs.upscale_fields import UpscaleFields, foreign_fields
from engine.media.info import MediaInfo
from engine.media.verify import OutputInfo
from engine.notes import Note
from engine.residency import MIB, peak_host_bytes
from engine.storage.deliver import Delivered
from engine.version import VERSION

HIDDEN = {
    "source", "source_base64", "image", "image_base64", "video", "video_base64", "destination", "s3_config", "upscale",
}  # fmt: skip
LONGEST_PROMPT = 4000  # characters of a prompt that a reply repeats
Reply = dict[str, Any]


def source_facts(info: MediaInfo) -> Reply:
    """What the source was."""
    return {
        "kind": info.kind,
        "container": info.container,
        "codec": info.codec,
        "width": info.raster.width,
        "height": info.raster.height,
        "frames": info.frames,
        "fps": str(info.fps),
        "duration": round(float(info.duration), 6),
        "bit_depth": info.raster.pixel.bits,
        "alpha": info.raster.pixel.alpha,
        "hdr": info.raster.colour.hdr,
        "interlaced": info.interlaced,
        "variable_rate": info.variable_rate,
        "audio_tracks": len(info.audio),
        "bytes": info.bytes,
    }


def output_facts(out: OutputInfo, delivered: Delivered, filename: str) -> Reply:
    """What the result is and where."""
    expires = delivered.expires_at
    facts = {
        "url": delivered.url or None,
        "expires_at": expires.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if expires else None,
        "bucket": delivered.bucket,
        "key": delivered.key,
        "filename": filename,
        "content_type": out.content_type,
        "bytes": out.bytes,
        "sha256": out.sha256,
        "width": out.width,
        "height": out.height,
        "frames": out.frames,
        "fps": str(out.fps),
        "duration": round(float(out.duration), 6),
        "codec": out.codec,
        "pixel_format": out.pixel_format,
        "audio_tracks": out.audio_tracks,
    }
    return facts | ({"base64": delivered.inline} if delivered.inline is not None else {})


def links(delivered: Delivered) -> Reply:
    """The one link under every name that a caller may look for."""
    return {"result_url": delivered.url, "output_url": delivered.url} if delivered.url else {}


def params(request: UpscaleRequest, model: Model, plan: Outline) -> Reply:
    """Every effective value, defaults and what was settled for this source included; neither addresses nor secrets."""
    hidden = HIDDEN | foreign_fields(model.family, model.mixed)
    return request.model_dump(mode="json", exclude=hidden, exclude_none=True) | _written(model, plan)


def _written(model: Model, plan: Outline) -> Reply:
    """What was settled of the file."""
    return {
        "model": model.name,
        "output_format": plan.spec.container,
        "codec": plan.spec.codec,
        "bit_depth": plan.spec.pixel.bits,
        "filename": plan.filename,
    }


def generate_params(script: Script, model: Model) -> Reply:
    """The same of a job that makes video; prompts are told as far as they can have been read."""
    foreign = {name for name, tasks in ONLY_OF.items() if script.request.kind not in tasks}
    values = script.request.model_dump(mode="json", exclude=HIDDEN | foreign, exclude_none=True)
    for name in ("prompt", "negative_prompt"):
        if len(values.get(name, "")) > LONGEST_PROMPT:
            values[name] = f"{values[name][:LONGEST_PROMPT]}…"
    values |= _written(model, script.final)
    if chain := script.enlarged:
        hidden = foreign_fields(chain.model.family, chain.model.mixed)
        own = set(UpscaleFields.model_fields) - hidden
        asked = chain.request.model_dump(mode="json", include=own, exclude_none=True)
        values["upscale"] = asked | {"model": chain.model.name}
    return values


def metrics(desk: Desk, clock: Clock, frames: int, seconds: Mapping[str, float]) -> Reply:
    """Seconds, rates and peaks of one job; sizes in MB (2**20 bytes). `seconds`: of the model's phases, if any."""
    process = clock.seconds("process")
    facts: Reply = {
        "spin_up_time": round(desk.waited_seconds, 3),
        "generation_time": process,
        "total_time": clock.total,
        "frames_per_second": round(frames / process, 3) if process else None,
        "peak_vram_mb": desk.residency.peak_vram_mb(),
        "peak_rss_mb": peak_host_bytes() // MIB,
        "gpu": desk.residency.report()["name"],
        "cold": desk.waited_seconds > 0,
    }
    if seconds:  # what is left was spent on decoding, encoding and conversions
        io = max(process - sum(seconds.values()), 0.0)
        facts["phases"] = phases({**seconds, "io": io})
    return facts


def phases(seconds: Mapping[str, float]) -> Reply:
    """Seconds of each phase of a model's work."""
    return {name: round(spent, 3) for name, spent in seconds.items()}


def warnings(notes: Iterable[Note]) -> list[Reply]:
    """Each note once, in order."""
    return [asdict(note) for note in dict.fromkeys(notes)]


@cache
def worker_facts() -> Reply:
    """Version and, where the build left it, revision of this worker."""
    stamp = Path(__file__).parents[2] / "REVISION"
    return {"version": VERSION, "revision": stamp.read_text().strip() if stamp.exists() else None}


def upscale_reply(request: UpscaleRequest, model: Model, plan: Outline, rest: Reply) -> Reply:
    """The frame that a finished and an estimated upscale share."""
    return {
        "status": "completed",
        "action": "estimate" if request.dry_run else "upscale",
        "model": model.name,
        "source": source_facts(plan.info),
        "params": params(request, model, plan),
        **rest,
        "worker": worker_facts(),
    }


def generate_reply(script: Script, model: Model, rest: Reply) -> Reply:
    """The same of a job that makes video; without a source there is none to tell of."""
    return {
        "status": "completed",
        "action": "estimate" if script.request.dry_run else "generate",
        "model": model.name,
        **({"source": source_facts(script.source)} if script.source else {}),
        "params": generate_params(script, model),
        **rest,
        "worker": worker_facts(),
    }
