"""The actions that make no file: estimate, info, warm, offload; and the refusal of what is yet to come."""

from typing import Any

from engine.catalog import Model, locate
from engine.errors import ModelNotBaked
from engine.jobs.desk import Desk
from engine.jobs.plan import Outline
from engine.jobs.requests import GenerateRequest, WarmRequest
from engine.jobs.result import worker_facts
from engine.media.outputs import CODECS, CONTAINERS
from engine.pipelines.protocol import Estimate
from engine.residency import MIB

Reply = dict[str, Any]


def generate(request: GenerateRequest, desk: Desk) -> Reply:
    """Wan2.1's action: the request is valid, and the model it means is found or refused by name."""
    model = desk.model(request.model, request.kind)
    raise ModelNotBaked(f"this version of the worker cannot run `{model.name}` yet", field="model")


def estimate(expected: Estimate, plan: Outline) -> Reply:
    """What a job would take: frames, sizes, batch, tile, memory, seconds."""
    rate = expected.seconds_per_frame
    return {
        "estimate": {
            "frames_in": plan.frames,
            "frames_out": plan.frames,
            "width": plan.target.width,
            "height": plan.target.height,
            "container": plan.spec.container,
            "codec": plan.spec.codec,
            "filename": plan.filename,
            "peak_mb": expected.peak_bytes // MIB,
            "seconds": None if rate is None else round(rate * plan.frames, 1),
        },
        "plan": expected.plan.as_reply(),
    }


def info(desk: Desk) -> Reply:
    """What this worker is and offers."""
    settings = desk.settings
    models = [_model_facts(desk, model) for name in settings.models if (model := desk.catalog.find(name))]
    return {
        "status": "completed",
        "action": "info",
        "worker": worker_facts(),
        "models": models,
        "loaded": _loaded(desk),
        "gpu": desk.residency.report(),
        "limits": {
            "input_bytes": settings.max_input_bytes,
            "input_seconds": settings.max_input_seconds,
            "input_frames": settings.max_input_frames,
            "input_pixels": settings.max_pixels,
            "output_pixels": settings.max_output_pixels,
        },
        "formats": {name: list(row.codecs) for name, row in CONTAINERS.items()},
        "codecs": {name: sorted({pixel.bits for pixel in row.pixels}) for name, row in CODECS.items()},
    }


def _model_facts(desk: Desk, model: Model) -> Reply:
    located = locate(model, desk.settings.models_dir)
    return {
        "name": model.name,
        "family": model.family,
        "tasks": list(model.tasks),
        "description": model.description,
        "licence": model.licence,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "precision": model.precision,
        "scale": model.scale,
        "files": [{"name": file.name, "sha256": file.sha256, "bytes": file.bytes} for file in model.files],
        "missing": [file.name for file in located.missing],
        "loaded": model.name in _loaded(desk),
    }


def _loaded(desk: Desk) -> list[str]:
    return [name for name, _ in desk.residency.loaded]


def warm(request: WarmRequest, desk: Desk) -> Reply:
    """Load a model and run one tiny shape."""
    model = desk.any_model(request.model)
    seconds = desk.warm(model)
    return {
        "status": "completed",
        "action": "warm",
        "model": model.name,
        "loaded": _loaded(desk),
        "seconds": round(seconds, 3),
        "gpu": desk.residency.report(),
        "worker": worker_facts(),
    }


def offload(desk: Desk) -> Reply:
    """Drop every model and say what came back."""
    gone, freed = desk.residency.offload()
    return {
        "status": "completed",
        "action": "offload",
        "offloaded": [name for name, _ in gone],
        "freed_mb": freed // MIB,
        "gpu": desk.residency.report(),
        "worker": worker_facts(),
    }
