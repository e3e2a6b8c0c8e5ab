"""Goldens of Wan2.1's transformers: whole networks of tiny size, rotary positions, names and shapes."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.config import I2V_14B, T2V_1_3B, T2V_14B, DiTConfig
from engine.models.wan.dit import WanDiT
from engine.models.wan.rope import table, turned
from tests.parity.rows import Row, compare, compare_max, exact, kind

PART, WHOLE = 1e-4, 1e-3  # of the largest value
PUBLISHED = {"t2v_1_3B": T2V_1_3B, "t2v_14B": T2V_14B, "i2v_14B": I2V_14B}


@kind("dit_t2v", "dit_i2v")
def network(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The velocity, and what happens on the way to it where the golden has that."""
    net = by_rule(config_of(sidecar["config"]))
    heard: dict[str, Tensor] = {}
    _listen(net, heard)
    with torch.inference_mode():
        net.prepare()
        x = torch.cat([tensors[key] for key in ("x", "y") if key in tensors], dim=1)
        images = tensors.get("clip_fea", [None] * len(x))
        contexts = [net.context(tensors[f"context_{i}"], image) for i, image in enumerate(images)]
        heard.clear()
        out = net(x, tensors["t"], contexts)
    heard["patch_emb_sample0"] = heard["patch_emb_sample0"][:1].mT.unflatten(2, (x.shape[2], x.shape[3] // 2, -1))
    for key, got in heard.items():
        if f"mid_{key}" in tensors:
            yield compare(f"{name} {key}", got, tensors[f"mid_{key}"], PART)
    yield compare(f"{name} out", out, tensors["out"], WHOLE)


@kind("rope_hd128")
def rotary(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The table, and vectors (B, L, heads, head) turned by it."""
    frames, rows, columns = sidecar["grid"]
    positions = table(sidecar["head_dim"], (frames, rows, columns), torch.device("cpu"))
    yield compare_max(f"{name} cos", positions.real, tensors["cos"], PART)
    yield compare_max(f"{name} sin", positions.imag, tensors["sin"], PART)
    out = turned(tensors["q"].transpose(0, 1).flatten(-2), positions).transpose(0, 1)
    yield compare_max(f"{name} turned", out, tensors["out"], PART)


@kind(*PUBLISHED)
def published(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every name and shape of the published file, the sidecar, at full size."""
    with torch.device("meta"):
        ours = {key: list(weight.shape) for key, weight in WanDiT(PUBLISHED[name]).state_dict().items()}
    yield exact(f"{name} names and shapes", ours == sidecar)


def config_of(reference: Mapping[str, Any]) -> DiTConfig:
    """Our sizes of a configuration in the reference's words."""
    task = reference["model_type"]
    return DiTConfig(
        task=task,
        dim=reference["dim"],
        hidden=reference["ffn_dim"],
        heads=reference["num_heads"],
        layers=reference["num_layers"],
        inputs=reference["in_dim"],
        outputs=reference["out_dim"],
        times=reference["freq_dim"],
        text_dim=reference["text_dim"],
        image_dim=1280 if task == "i2v" else None,
    )


def by_rule(config: DiTConfig) -> WanDiT:
    """A network with weights by the rule, not yet prepared."""
    with torch.device("meta"):
        net = WanDiT(config)
    weights = {name: tensor_by_rule(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()}
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(False)


def _listen(net: WanDiT, heard: dict[str, Tensor]) -> None:
    """Keep what the network's parts say of all samples, by the golden's names."""

    def keep(module: nn.Module, key: str) -> None:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            if isinstance(out, Tensor):  # keys are no step
                heard[key] = out.transpose(0, 1).clone() if out.dim() == 3 else out.clone()

        module.register_forward_hook(hook)

    keep(net.patch_embedding, "patch_emb_sample0")
    keep(net.time_embedding, "time_emb")
    for index, block in enumerate(net.layers):
        keep(block, f"block_{index}")
