"""The model that comes with the repository: a compact x2 network and the procedural pictures that taught it."""

from pathlib import Path

DEFAULT_FILE = Path(__file__).parents[2] / "engine" / "data" / "bundled-x2.safetensors"
