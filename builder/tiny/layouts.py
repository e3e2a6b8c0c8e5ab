"""The published layouts, and a folder of tiny checkpoints in them with the catalog that makes a worker know them.

LAYOUTS are SeedVR2's; Wan2.1's are in `wan_layouts`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from builder.tiny import wan_layouts
from builder.tiny.entries import Model, catalog
from builder.tiny.files import Precision, write
from builder.tiny.weights import NEGATIVE, POSITIVE, autoencoder, prompt, transformer

CATALOG = "catalog.toml"
VAE, VAE_F32 = "tiny_ema_vae_fp16.safetensors", "tiny_ema_vae.pth"
POSITIVE_FILE, NEGATIVE_FILE = "tiny_pos_emb.pt", "tiny_neg_emb.pt"
ROLES = {VAE: "vae", VAE_F32: "vae", POSITIVE_FILE: "positive", NEGATIVE_FILE: "negative"}
PRECISIONS = {"mixed": "F8_E4M3"}  # as the catalog calls it


@dataclass(frozen=True, slots=True)
class Layout:
    """One published kind of file. `prompts`: the two text embeddings are inside."""

    kind: str
    file: str
    precision: Precision
    prompts: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The network's own and those that it needs besides."""
        vae = VAE_F32 if self.precision == "F32" else VAE
        return (self.file, vae) if self.prompts else (self.file, vae, POSITIVE_FILE, NEGATIVE_FILE)


LAYOUTS = {
    "3b-fp16": Layout("3b", "tiny_seedvr2_ema_3b_fp16.safetensors", "F16"),
    "3b-fp8": Layout("3b", "tiny_seedvr2_ema_3b_fp8_e4m3fn.safetensors", "F8_E4M3"),
    "3b-q8": Layout("3b", "tiny_seedvr2_ema_3b-Q8_0.gguf", "Q8_0"),
    "3b-q4": Layout("3b", "tiny_seedvr2_ema_3b-Q4_K_M.gguf", "Q4_K"),
    "3b-pth": Layout("3b", "tiny_seedvr2_ema_3b.pth", "F32"),
    "7b-fp16": Layout("7b", "tiny_seedvr2_ema_7b_fp16.safetensors", "F16"),
    "7b-fp8": Layout("7b", "tiny_seedvr2_ema_7b_fp8_e4m3fn.safetensors", "F8_E4M3"),
    "7b-mixed": Layout("7b", "tiny_seedvr2_ema_7b_fp8_e4m3fn_mixed_block1_fp16.safetensors", "mixed"),
    "7b-q4": Layout("7b", "tiny_seedvr2_ema_7b-Q4_K_M.gguf", "Q4_K"),
    "7b-pth": Layout("7b", "tiny_seedvr2_ema_7b.pth", "F32"),
    "comfy-3b-fp16": Layout("3b", "tiny_seedvr2_3b_fp16.safetensors", "F16", prompts=True),
    "comfy-3b-fp8": Layout("3b", "tiny_seedvr2_3b_fp8_e4m3fn.safetensors", "F8_E4M3", prompts=True),
    "comfy-7b-fp16": Layout("7b", "tiny_seedvr2_7b_fp16.safetensors", "F16", prompts=True),
    "comfy-7b-mixed": Layout("7b", "tiny_seedvr2_7b_fp8_e4m3fn_mixed_block1_fp16.safetensors", "mixed", prompts=True),
}


ALL = (*LAYOUTS, *wan_layouts.LAYOUTS)


def make(folder: Path, names: Iterable[str] = ALL) -> Path:
    """Write these layouts and what they need into `folder`; returns the catalog file, for the setting CATALOG."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(names)
    models = _seedvr2(folder, {name: LAYOUTS[name] for name in names if name in LAYOUTS})
    wan, loras = wan_layouts.write(folder, [name for name in names if name not in LAYOUTS])
    path = folder / CATALOG
    path.write_text("\n".join(catalog(folder, [*models, *wan], loras)))
    return path


def _seedvr2(folder: Path, layouts: Mapping[str, Layout]) -> list[Model]:
    if not layouts:
        return []
    tensors = {kind: transformer(kind) for kind in {layout.kind for layout in layouts.values()}}
    positive, negative = prompt("positive", POSITIVE), prompt("negative", NEGATIVE)
    inside = {"positive_conditioning": positive, "negative_conditioning": negative}
    for layout in layouts.values():
        write(folder / layout.file, tensors[layout.kind] | (inside if layout.prompts else {}), layout.precision)
    torch.save(positive, folder / POSITIVE_FILE)
    torch.save(negative, folder / NEGATIVE_FILE)
    vae = autoencoder()
    write(folder / VAE, vae, "F16")
    write(folder / VAE_F32, vae, "F32")
    parameters = {kind: sum(t.numel() for t in made.values()) for kind, made in tensors.items()}
    return [
        Model(
            name=f"tiny-seedvr2-{name}",
            family="seedvr2",
            architecture=layout.kind,
            tasks=("upscale",),
            description=f"A tiny network for tests, in the layout of {layout.file[5:]}",
            parameters=parameters[layout.kind],
            precision=PRECISIONS.get(layout.precision, layout.precision),
            files={file: ROLES.get(file, "dit") for file in layout.files},
        )
        for name, layout in layouts.items()
    ]
