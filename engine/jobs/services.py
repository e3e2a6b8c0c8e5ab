"""The actions that make no file: estimate, info, warm, offload."""

from collections.abc import Sequence
from typing import Any

from engine.catalog import Lora, Model, locate
from engine.jobs.cancel import CancelToken
from engine.jobs.desk import Desk
from engine.jobs.plan import Outline
from engine.jobs.progress import Progress
from engine.jobs.requests import WarmRequest
from engine.jobs.result import worker_facts
from engine.media.outputs import CODECS, CONTAINERS
from engine.pipelines.protocol import Estimate
from engine.residency import MIB

Reply = dict[str, Any]


def estimate(plan: Outline, frames_in: int, expected: Sequence[Estimate]) -> Reply:
    """What a job would take: frames, sizes, memory, seconds. `expected`: of the models, one after the other."""
    rates = [each.seconds_per_frame for each in expected]
    known = [rate for rate in rates if rate is not None]
    return {
        "estimate": {
            "frames_in": frames_in,
            "frames_out": plan.frames,
            "width": plan.target.width,
            "height": plan.target.height,
            "container": plan.spec.container,
            "codec": plan.spec.codec,
            "filename": plan.filename,
            "peak_mb": max(each.peak_bytes for each in expected) // MIB,
            "seconds": round(sum(known) * plan.frames, 1) if len(known) == len(rates) else None,
        }
    }


def info(desk: Desk) -> Reply:
    """What this worker is and offers."""
    settings = desk.settings
    models = [model for name in settings.models if (model := desk.catalog.find(name))]
    loras = [lora for lora in desk.catalog.loras if any(lora.fits(model) for model in models)]
    return {
        "status": "completed",
        "action": "info",
        "worker": worker_facts(),
        "models": [_model_facts(desk, model) for model in models],
        "loras": [_lora_facts(desk, lora) for lora in loras],
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
        "description_zh": model.description_zh,
        "licence": model.licence,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "precision": model.precision,
        "scale": model.scale,
        "needs_mb": {"least": model.needs.least, "whole": model.needs.whole} if model.needs else None,
        "files": _file_facts(model),
        "missing": [file.name for file in located.missing],
        "loaded": model.name in _loaded(desk),
    }


def _lora_facts(desk: Desk, lora: Lora) -> Reply:
    return {
        "name": lora.name,
        "description": lora.description,
        "description_zh": lora.description_zh,
        "licence": lora.file.source.licence,
        "architectures": list(lora.architectures),
        "steps": lora.steps,
        "guidance": lora.guidance,
        "shift": lora.shift,
        "solver": lora.solver,
        "files": _file_facts(lora),
        "missing": [file.name for file in locate(lora, desk.settings.models_dir).missing],
    }


def _file_facts(owner: Model | Lora) -> list[Reply]:
    return [
        {
            "name": file.name,
            "repo": file.source.repo,
            "revision": file.source.revision,
            "bytes": file.bytes,
            "sha256": file.sha256,
            "sources": file.sources,
            "licence": file.source.licence,
        }
        for file in owner.files
    ]


def _loaded(desk: Desk) -> list[str]:
    return [name for name, _ in desk.residency.loaded]


def warm(request: WarmRequest, desk: Desk, token: CancelToken, progress: Progress) -> Reply:
    """Load a model and run one tiny shape."""
    model = desk.any_model(request.model)
    progress.stage("load")
    seconds = desk.warm(model, token.check, progress.part)
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
