"""A Dockerfile as its instructions, for rules that are checked where no builder is at hand."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    text: str


@dataclass
class Stage:
    """What follows one FROM. base: an image, or the name of an earlier stage."""

    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def texts(self, name: str) -> list[str]:
        return [each.text for each in self.instructions if each.name == name]


@dataclass
class Dockerfile:
    """All stages, and the arguments that stand before the first."""

    arguments: dict[str, str]
    stages: list[Stage]

    @property
    def final(self) -> Stage:
        return self.stages[-1]

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)


def read(path: Path = ROOT / "Dockerfile") -> Dockerfile:
    found = Dockerfile({}, [])
    for each in instructions(path.read_text("utf-8")):
        if each.name == "FROM":
            base, _, name = each.text.partition(" AS ")
            found.stages.append(Stage(base, name or None))
        elif found.stages:
            found.stages[-1].instructions.append(each)
        else:
            name, _, default = each.text.partition("=")
            found.arguments[name] = default
    return found


def instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield Instruction(name, rest.strip())


def arguments(stage: Stage) -> dict[str, str]:
    """Of ARG, by name."""
    return {name: default for name, _, default in (text.partition("=") for text in stage.texts("ARG"))}


def variables(stage: Stage) -> dict[str, str]:
    """Of ENV, by name."""
    pairs = (pair.partition("=") for text in stage.texts("ENV") for pair in text.split())
    return {name: value for name, _, value in pairs}


def sources(text: str) -> list[str]:
    """What a COPY takes from the build's own folder; nothing of one that copies from a stage."""
    words = text.split()
    return [] if words[0].startswith("--from") else words[:-1]
