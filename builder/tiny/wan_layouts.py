"""Wan2.1's published layouts: which files each is made of, and the writing of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from builder.tiny import wan_files, wan_names, wan_networks
from builder.tiny.entries import Lora, Model
from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.config import Task

_COMFY: tuple[wan_files.Precision, ...] = get_args(wan_files.Precision)
KINDS = (
    "original",
    *(f"comfy-{each}" for each in _COMFY),
    "diffusers",
    *(f"gguf-{each}" for each in wan_files.MIXTURES),
)
LAYOUTS: dict[str, tuple[Task, str]] = {f"wan-{task}-{kind}": (task, kind) for task in get_args(Task) for kind in KINDS}
ARCHITECTURES: dict[Task, str] = {"t2v": "t2v-1.3b", "i2v": "i2v-14b-480p"}
TASKS: dict[Task, tuple[str, ...]] = {"t2v": ("t2v", "v2v"), "i2v": ("i2v",)}
PRECISIONS = {
    "comfy-fp16": "F16",
    "comfy-bf16": "BF16",
    "comfy-fp8_e4m3fn": "F8_E4M3",
    "comfy-fp8_scaled": "F8_E4M3",
    "gguf-q4_k_m": "Q4_K",
    "gguf-q5_k_m": "Q5_K",
    "gguf-q6_k": "Q6_K",
    "gguf-q8_0": "Q8_0",
}
RANK = 4

# Upstream's configuration, as far as the negative prompt is in it.
CONFIGURATION = {
    "tiny_shared_config.py": """wan_shared_cfg = EasyDict()
wan_shared_cfg.sample_neg_prompt = 'noise and rain'
""",
    "tiny_wan_i2v_14B.py": """i2v_14B = EasyDict(__name__='Config: Wan I2V 14B')
i2v_14B.update(wan_shared_cfg)
i2v_14B.sample_neg_prompt = "shaking, " + i2v_14B.sample_neg_prompt
""",
}

Files = dict[str, str]  # key -> role


def write(folder: Path, names: Sequence[str]) -> tuple[list[Model], list[Lora]]:
    """Write these layouts, what they share once, and a LoRA for each of their networks."""
    writer = _Writer(folder)
    made = [writer.model(name) for name in names]
    return made, [writer.lora(task) for task in dict.fromkeys(LAYOUTS[name][0] for name in names)]


@dataclass
class _Writer:
    """Makes each network and each file when it is first asked for."""

    folder: Path

    def model(self, name: str) -> Model:
        task, layout = LAYOUTS[name]
        makers: dict[str, Callable[[Task], Files]] = {
            "original": self._original,
            "diffusers": self._diffusers,
            **{f"comfy-{each}": partial(self._comfy, precision=each) for each in _COMFY},
            **{f"gguf-{each}": partial(self._gguf, mixture=each) for each in wan_files.MIXTURES},
        }
        files = makers[layout](task)
        return Model(
            name=f"tiny-{name}",
            family="wan",
            architecture=ARCHITECTURES[task],
            tasks=TASKS[task],
            description=f"A tiny network for tests, in the layout {layout}",
            parameters=sum(tensor.numel() for tensor in self._dits[task].values()),
            precision=PRECISIONS.get(layout, "F32"),
            files=files | self._configuration(task),
        )

    def lora(self, task: Task) -> Lora:
        """In ComfyUI's naming, of two layers and a bias."""
        tensors: dict[str, Tensor] = {}
        for layer in ("blocks.0.self_attn.q", "blocks.1.ffn.0"):
            outputs, inputs = self._dits[task][f"{layer}.weight"].shape
            tensors[f"diffusion_model.{layer}.lora_down.weight"] = tensor_by_rule(f"{layer}.down", (RANK, inputs))
            tensors[f"diffusion_model.{layer}.lora_up.weight"] = tensor_by_rule(f"{layer}.up", (outputs, RANK))
            tensors[f"diffusion_model.{layer}.alpha"] = torch.tensor(float(RANK))
            tensors[f"diffusion_model.{layer}.diff_b"] = tensor_by_rule(f"{layer}.diff_b", (outputs,))
        file = f"tiny_wan_{task}_lora.safetensors"
        save_file(tensors, self.folder / file)
        return Lora(f"tiny-wan-{task}-lora", file, (ARCHITECTURES[task],))

    def _original(self, task: Task) -> Files:
        """Shards, pickles, and the tokenizer's file."""
        folder = f"tiny-wan-{task}"
        names = wan_files.shards(self.folder / folder, "diffusion_pytorch_model", self._dits[task])
        files = {f"{folder}/{name}": "dit" for name in names}
        files |= self._once("tiny_models_t5_umt5-enc-bf16.pth", "text_encoder", self._pickled_text)
        files |= self._tokenizer() | self._once("tiny_Wan2.1_VAE.pth", "vae", lambda path: torch.save(self._vae, path))
        return files | (
            self._once("tiny_models_clip.pth", "image_encoder", self._pickled_image) if task == "i2v" else {}
        )

    def _comfy(self, task: Task, precision: wan_files.Precision) -> Files:
        """One file each, the tokenizer in the text encoder's; the t2v network's names have a prefix, as the 1.3B's."""
        tensors = wan_files.cast(self._dits[task], precision)
        if precision == "fp16" and task == "t2v":
            tensors |= {name: self._dits[task][name] for name in tensors if name.startswith("patch_embedding.")}
        if precision in ("fp16", "bf16") and task == "t2v":
            tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in tensors.items()}
        file = f"tiny_wan2.1_{task}_{precision}.safetensors"
        save_file(tensors, self.folder / file)
        text = "fp8_scaled" if precision.startswith("fp8") else "fp16"
        return {file: "dit"} | self._comfy_text(text) | self._comfy_rest(task)

    def _diffusers(self, task: Task) -> Files:
        folder = f"tiny-wan-{task}-diffusers"
        dit = wan_names.diffusers_transformer(self._dits[task])
        text = {name: tensor.bfloat16() for name, tensor in wan_names.transformers_text(self._text).items()}
        written = {
            "dit": ("transformer", "diffusion_pytorch_model", dit),
            "text_encoder": ("text_encoder", "model", text),
        }
        files = {
            f"{folder}/{part}/{name}": role
            for role, (part, stem, tensors) in written.items()
            for name in wan_files.shards(self.folder / folder / part, stem, tensors)
        }
        single = {"vae": ("vae/diffusion_pytorch_model.safetensors", wan_names.diffusers_autoencoder(self._vae))}
        if task == "i2v":
            single["image_encoder"] = ("image_encoder/model.safetensors", wan_names.transformers_image(self._image))
        for role, (name, tensors) in single.items():
            (self.folder / folder / name).parent.mkdir(exist_ok=True)
            save_file(tensors, self.folder / folder / name, {"format": "pt"})
            files[f"{folder}/{name}"] = role
        return files | self._tokenizer(f"{folder}/tokenizer/")

    def _gguf(self, task: Task, mixture: wan_files.Quantized) -> Files:
        file = f"tiny-wan2.1-{task}-{mixture.upper()}.gguf"
        wan_files.transformer_gguf(self.folder / file, self._dits[task], mixture)
        files = {file: "dit"} | self._once(
            "tiny-umt5-encoder-Q8_0.gguf",
            "text_encoder",
            lambda path: wan_files.text_gguf(path, wan_names.llama_text(self._text)),
        )
        return files | self._tokenizer() | self._comfy_rest(task)

    def _comfy_text(self, precision: str) -> Files:
        def save(path: Path) -> None:
            tensors = wan_names.transformers_text(self._text)
            linears = [
                name for name, t in tensors.items() if "relative" not in name and t.ndim == 2 and "shared" not in name
            ]
            made = (
                wan_files.scaled(tensors, linears, 0) if precision == "fp8_scaled" else wan_files.cast(tensors, "fp16")
            )
            spiece = torch.frombuffer(bytearray(self._spiece), dtype=torch.uint8)
            save_file(made | {"spiece_model": spiece}, path)

        return self._once(f"tiny_umt5_{precision}.safetensors", "text_encoder", save)

    def _comfy_rest(self, task: Task) -> Files:
        def save_image(path: Path) -> None:
            tensors = wan_files.cast(wan_names.transformers_image(self._image), "fp16")
            save_file(
                tensors | {"vision_model.embeddings.position_ids": torch.arange(257)[None]}, path, {"format": "pt"}
            )

        files = self._once(
            "tiny_wan_2.1_vae.safetensors", "vae", lambda path: save_file(wan_files.cast(self._vae, "bf16"), path)
        )
        return files | (
            self._once("tiny_clip_vision_h.safetensors", "image_encoder", save_image) if task == "i2v" else {}
        )

    def _tokenizer(self, folder: str = "") -> Files:
        return self._once(
            f"{folder}{'' if folder else 'tiny_'}spiece.model", "tokenizer", lambda path: path.write_bytes(self._spiece)
        )

    def _configuration(self, task: Task) -> Files:
        names = [name for name in CONFIGURATION if task == "i2v" or "i2v" not in name]
        files: Files = {}
        for name in names:
            files |= self._once(name, "negative_prompt", lambda path: path.write_text(CONFIGURATION[path.name]))
        return files

    def _once(self, key: str, role: str, save: Callable[[Path], object]) -> Files:
        """A file that several layouts share."""
        path = self.folder / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path)
        return {key: role}

    def _pickled_text(self, path: Path) -> None:
        torch.save({name: tensor.bfloat16() for name, tensor in self._text.items()}, path)

    def _pickled_image(self, path: Path) -> None:
        """With some of the text half, which the file holds, too."""
        textual = {"log_scale": torch.zeros(()), "textual.head.0.weight": torch.zeros(8, 8)}
        torch.save(self._image | textual, path)

    @cached_property
    def _dits(self) -> Mapping[Task, dict[str, Tensor]]:
        return {task: wan_networks.transformer(task) for task in get_args(Task)}

    @cached_property
    def _vae(self) -> dict[str, Tensor]:
        return wan_networks.autoencoder()

    @cached_property
    def _text(self) -> dict[str, Tensor]:
        return wan_networks.text_encoder()

    @cached_property
    def _image(self) -> dict[str, Tensor]:
        return wan_networks.image_encoder()

    @cached_property
    def _spiece(self) -> bytes:
        return wan_networks.tokenizer()
