"""The README's table of models, made from the catalog.

python -m builder.readme                    prints it
python -m builder.readme --write README.md  puts it between the file's markers
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path

from engine.catalog import Catalog, Lora, Model, built_in

BEGIN, END = "<!-- models:begin -->", "<!-- models:end -->"
TITLES = {"esrgan": "Real-ESRGAN", "seedvr2": "SeedVR2", "wan": "Wan2.1"}
NOTE = """Files: what is downloaded, with those that models share. Graphics memory, as the planner computes it: by the
thriftiest plan, which is slow, and with everything on the card at once, for 540p to 1080p (SeedVR2), 81 frames at 480P
or by the 720P model (Wan2.1), 540p (Real-ESRGAN). Between the two, a job takes what it finds."""


def models_table(catalog: Catalog) -> str:
    """Markdown: a table per family, folded, and one of LoRAs."""
    groups = [
        _table(f"{title}, {licence}", ("`model`", "what it is", "files", "graphics memory"), map(_model_row, models))
        for (title, licence), models in groupby(catalog.models, key=lambda model: (_title(model), model.licence))
    ]
    licences = ", ".join(dict.fromkeys(lora.file.source.licence for lora in catalog.loras))
    head = ("`loras`", "what it is", "file", "for")
    return "\n\n".join((*groups, _table(f"LoRAs for Wan2.1, {licences}", head, map(_lora_row, catalog.loras)), NOTE))


def filled(text: str, catalog: Catalog) -> str:
    """`text` with the table between its markers. Raises ValueError where a marker is missing."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"the markers {BEGIN} and {END} must stand there once, in this order")
    block = f"{BEGIN}\n\n{models_table(catalog)}\n\n{END}"
    return pattern.sub(lambda _: block, text)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m builder.readme", description="The README's table of models.")
    parser.add_argument("--write", type=Path, metavar="README.md", help="put it between the file's markers")
    chosen = parser.parse_args(arguments)
    if chosen.write:
        chosen.write.write_text(filled(chosen.write.read_text("utf-8"), built_in()), "utf-8")
    else:
        print(models_table(built_in()))


def _title(model: Model) -> str:
    return TITLES[model.family] if model.files[0].url else "In the package"


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


def _size(owner: Model | Lora) -> str:
    size = owner.download_bytes
    about = "" if all(file.bytes for file in owner.files if not file.optional) else "about "
    return f"{about}{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB" if size else ""


def _gigabytes(mb: int) -> str:
    size = mb * 2**20 / 1e9
    return f"{size:.1f}" if size < 10 else f"{ceil(size)}"


def _table(title: str, head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|" for line in lines)
    return f"<details><summary><b>{title}</b></summary>\n\n{table}\n\n</details>"


if __name__ == "__main__":
    main(sys.argv[1:])
