"""The LoRAs that a job names: found in the catalog, which is the list of those allowed, and on this machine."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from engine.catalog import Lora, Model, locate
from engine.errors import InvalidInput, ModelNotBaked, Problem
from engine.jobs.desk import Desk
from engine.jobs.requests import GenerateRequest
from engine.jobs.wording import brief, listed

if TYPE_CHECKING:
    from engine.pipelines.wan.options import LoraFile


def find_loras(request: GenerateRequest, model: Model, desk: Desk) -> tuple[Lora, ...]:
    """Those that the request names, in its order. Raises InvalidInput, ModelNotBaked."""
    if problems := list(_problems(request, model, desk)):
        raise InvalidInput(problems)
    found = tuple(lora for asked in request.loras if (lora := desk.catalog.find_lora(asked.name)))
    folders = desk.settings.models_dir
    if missing := [] if request.dry_run else [lora.name for lora in found if locate(lora, folders).missing]:
        raise ModelNotBaked(
            f"this worker's image lacks the LoRA {listed((f'`{name}`' for name in missing), 'and')}",
            hint="bake the LoRA into the image, or put its file into a folder of MODELS_DIR",
            field="loras",
        )
    return found


def lora_files(request: GenerateRequest, loras: Sequence[Lora], desk: Desk) -> "tuple[LoraFile, ...]":
    """The same for the pipeline: where each lies, and how much of it is wanted."""
    from engine.pipelines.wan.options import LoraFile

    folders = desk.settings.models_dir
    return tuple(
        LoraFile(lora.name, locate(lora, folders).paths[lora.file.name], asked.strength)
        for asked, lora in zip(request.loras, loras, strict=True)
    )


def _problems(request: GenerateRequest, model: Model, desk: Desk) -> Iterator[Problem]:
    for asked in request.loras:
        lora = desk.catalog.find_lora(asked.name)
        if lora is None:
            yield Problem("loras", f"no LoRA is called `{brief(asked.name)}`; {_advice(asked.name, model, desk)}")
        elif not lora.fits(model):
            made_for = listed(lora.architectures)
            text = f"`{lora.name}` is made for {made_for}, not for `{model.name}`"
            yield Problem("loras", f"{text}; {_advice(None, model, desk)}")


def _advice(name: str | None, model: Model, desk: Desk) -> str:
    """The nearest name among those that fit the model, or all of these."""
    fitting = [lora.name for lora in desk.catalog.loras if lora.fits(model)]
    near = get_close_matches(name.casefold(), {each.casefold(): each for each in fitting}, n=1) if name else []
    if near:
        return f"did you mean `{next(each for each in fitting if each.casefold() == near[0])}`?"
    return f"for this model there are {listed((f'`{each}`' for each in fitting), 'and')}" if fitting else "it has none"
