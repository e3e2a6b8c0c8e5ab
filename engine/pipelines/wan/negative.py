"""What guidance leads away from when a job names nothing: Wan2.1's own negative prompt, or else one of ours.

Upstream keeps its prompt in its configuration, Python files that are read here as data and never run:
`wan_shared_cfg.sample_neg_prompt = "..."` of wan/configs/shared_config.py, and what wan_i2v_14B.py puts before it,
`i2v_14B.sample_neg_prompt = "..." + i2v_14B.sample_neg_prompt`.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

OWN_NEGATIVE = (
    "blurry, out of focus, noisy, blocky compression, washed out, blown highlights, frozen motion, flicker, captions, "
    "watermark, logo, distorted face, malformed hands, extra limbs, melting shapes, cluttered background"
)
_SHARED, _PROMPT = "wan_shared_cfg", "sample_neg_prompt"


def default_negative(files: Iterable[Path], task: str) -> str | None:
    """The task's prompt as the configuration among `files` has it, or None where there is none. Raises OSError.

    task: what the names of its configurations begin with, such as `i2v`.
    """
    told: dict[str, ast.expr] = {}
    for path in files:
        if path.suffix == ".py":
            told |= dict(_assignments(path))
    shared = _text(told.get(_SHARED), {})
    known = dict.fromkeys((_SHARED, *told), shared)  # each configuration starts as a copy of the shared one
    for name, value in told.items():
        if name.startswith(task):
            return _text(value, known) or shared
    return shared


def _assignments(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """Each configuration's name and the expression that becomes its prompt; none of a file that is no Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id=name), attr=attr)]) if attr == _PROMPT:
                yield name, node.value


def _text(value: ast.expr | None, known: Mapping[str, str | None]) -> str | None:
    """What the expression stands for: a text, a known configuration's prompt, or a sum of such."""
    match value:
        case ast.Constant(value=str(text)):
            return text or None
        case ast.Attribute(value=ast.Name(id=name), attr=attr) if attr == _PROMPT:
            return known.get(name)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _text(left, known), _text(right, known)
            return first + second if first and second else None
    return None
