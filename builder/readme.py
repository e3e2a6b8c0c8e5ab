"""The tables of models, made from the catalog: a row for each image's set, and all models with their LoRAs.

python -m builder.readme                                   prints them
python -m builder.readme --write README.md docs/models.md  puts them between the markers of those files
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path

from builder.bake.wanted import entries
from engine.catalog import Catalog, Lora, Model, built_in
from engine.jobs.schema import write

SEEDVR2 = [f"seedvr2-{size}-{kind}" for size in ("3b", "7b", "7b-sharp") for kind in ("fp8", "fp16", "q8", "q4")]
WAN = ("wan21-t2v-1.3b", "wan21-t2v-14b-fp8", "wan21-i2v-480p-fp8", "wan21-i2v-720p-fp8")
ALL_IN_ONE = (*("realesrgan", "seedvr2-3b-fp8", "seedvr2-7b-fp8", "seedvr2-7b-sharp-fp8"), *WAN[1:3])
SETS = {name: (name,) for name in (*SEEDVR2, *WAN, "realesrgan")} | {"all-in-one": ALL_IN_ONE}
"""What the images of docker-bake.hcl have in them, by the image's tag."""
SET_WORDS = {
    "realesrgan": "All of Real-ESRGAN",
    "all-in-one": "Real-ESRGAN, SeedVR2 3B, 7B and 7B sharp, Wan2.1 text and image (480P) to video, these in fp8",
}
TITLES = {"esrgan": "Real-ESRGAN", "seedvr2": "SeedVR2", "wan": "Wan2.1"}
NOTE = """Files: what is downloaded, with those that models share. Graphics memory, as the planner computes it: by the
thriftiest plan, which is slow, and with everything on the card at once, for 540p to 1080p (SeedVR2), 81 frames at 480P
or by the 720P model (Wan2.1), 540p (Real-ESRGAN). Between the two, a job takes what it finds."""


def sets_table(catalog: Catalog) -> str:
    """Markdown: what each image has in it; graphics memory is that of its most demanding model."""
    head = ("image", "what it has", "files", "graphics memory", "licence")
    models = {
        name: [each for each in entries(catalog, names) if isinstance(each, Model)] for name, names in SETS.items()
    }
    return _table(head, (_set_row(name, of_it) for name, of_it in models.items()))


def models_table(catalog: Catalog) -> str:
    """Markdown: a table per family, folded, and one of LoRAs."""
    groups = [
        _folded(f"{title}, {licence}", ("`model`", "what it is", "files", "graphics memory"), map(_model_row, models))
        for (title, licence), models in groupby(catalog.models, key=lambda model: (_title(model), model.licence))
    ]
    licences = ", ".join(dict.fromkeys(lora.file.source.licence for lora in catalog.loras))
    head = ("`loras`", "what it is", "file", "for")
    return "\n\n".join((*groups, _folded(f"LoRAs for Wan2.1, {licences}", head, map(_lora_row, catalog.loras)), NOTE))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m builder.readme", description="The tables of models.")
    parser.add_argument("--write", type=Path, nargs="+", metavar="PAGE.md", help="put them between the files' markers")
    chosen = parser.parse_args(arguments)
    tables = {"sets": sets_table(built_in()), "models": models_table(built_in())}
    if chosen.write:
        write(chosen.write, tables)
    else:
        print("\n\n".join(tables.values()))


def _title(model: Model) -> str:
    return TITLES[model.family] if model.files[0].url else "In the package"


def _set_row(name: str, models: Sequence[Model]) -> Iterator[str]:
    needs = [model.needs for model in models if model.needs]
    yield f"`{name}`"
    yield SET_WORDS.get(name) or models[0].description
    yield _size(*models)
    yield f"{_gigabytes(max(need.least for need in needs))} to {_gigabytes(max(need.whole for need in needs))} GB"
    yield ", ".join(dict.fromkeys(model.licence for model in models))


def _model_row(model: Model) -> Iterator[str]:
    yield ", ".join(f"`{name}`" for name in (model.name, *model.aliases) if "/" not in name)
    yield model.description
    yield _size(model)
    yield f"{_gigabytes(model.needs.least)} to {_gigabytes(model.needs.whole)} GB" if model.needs else ""


def _lora_row(lora: Lora) -> Iterator[str]:
    yield f"`{lora.name}`"
    yield lora.description
    yield _size(lora)
    yield ", ".join(lora.architectures)


def _size(*owners: Model | Lora) -> str:
    """Of all of these together: what they share counts once."""
    parts = {key: size for owner in owners for key, size in _parts(owner)}
    known = all(file.bytes for owner in owners for file in owner.files if not file.optional)
    size, about = sum(parts.values()), "" if known else "about "
    return f"{about}{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB" if size else ""


def _parts(owner: Model | Lora) -> Iterator[tuple[tuple[str, ...], int]]:
    """Its files of each role, by their keys, and their bytes."""
    if isinstance(owner, Lora):
        yield (owner.file.key,), owner.download_bytes
    else:
        for role in dict.fromkeys(file.role for file in owner.files):
            yield tuple(file.key for file in owner.files if file.role == role), owner.bytes_of(role) or 0


def _gigabytes(mb: int) -> str:
    size = mb * 2**20 / 1e9
    return f"{size:.1f}" if size < 10 else f"{ceil(size)}"


def _folded(title: str, head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    return f"<details><summary><b>{title}</b></summary>\n\n{_table(head, rows)}\n\n</details>"


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|" for line in lines)


if __name__ == "__main__":
    main(sys.argv[1:])
