"""Goldens of SeedVR2's transformers: whole networks of tiny size, rotary positions, names, tables of windows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from engine.models.seedvr2.config import DIT_3B, DIT_7B, DiTConfig
from engine.models.seedvr2.dit import DiT3B, DiT7B, build
from engine.models.seedvr2.layout import layouts
from engine.models.seedvr2.names import parse
from engine.models.seedvr2.rope import rotate_, text_angles, text_table, video_angles, video_table
from engine.models.seedvr2.windows import Size, pieces, window_size
from tests.parity.rows import Row, compare_max, exact, kind
from tests.parity.seedvr2_rule import check_weights, weights_by_rule

TOLERANCE = 1e-4
CPU = torch.device("cpu")
Net = DiT3B | DiT7B


@kind("dit3b_", "dit7b_")
def network(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """The velocity, and what happens on the way to it where the golden has that."""
    net = tiny(sidecar["arch"], sidecar["config"])
    yield check_weights(name, net.state_dict(), sidecar["weights_check"])
    noise, cond = tensors["noise"], tensors["cond"]
    x = torch.cat((noise, cond, torch.ones_like(noise[..., :1])), dim=-1)[None]
    with torch.inference_mode():
        found = {"emb": net.emb_in(sidecar["case"]["timestep"], CPU)[None]}
        net.prepare(tensors["txt"], sidecar["case"]["timestep"])
        found["txt_in"] = net.prompt.clone()
        traces = _Traces(net, grid(x))
        out = net(x, lambda: None)[0]
    for key, got in (found | traces.found()).items():
        if f"trace.{key}" in tensors:
            yield compare_max(f"{name} {key}", got, tensors[f"trace.{key}"], TOLERANCE)
    yield compare_max(f"{name} out", out, tensors["out"], TOLERANCE)


@kind("rope")
def rotary(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Angles and turned vectors, windows one after the other, the prompt repeated for each."""
    shapes: list[Size] = [tuple(shape) for shape in sidecar["window_shapes"]]
    text = sidecar["txt_len"]
    sizes = [shape[0] * shape[1] * shape[2] for shape in shapes]
    for kind_ in ("3b", "7b"):
        angles = torch.cat([video_angles(kind_, shape, text) for shape in shapes]).repeat_interleave(2, dim=1)
        yield compare_max(f"{name} video {kind_}", angles, tensors[f"vid_angles_{kind_}"], TOLERANCE)
        if f"vid_out_{kind_}" in tensors:
            tables = [video_table(kind_, shape, text, CPU) for shape in shapes]
            parts = zip(tensors["q"].clone()[:, None].split(sizes), tables, strict=True)
            turned = torch.cat([rotate_(part, table) for part, table in parts])[:, 0]
            yield compare_max(f"{name} video {kind_} turned", turned, tensors[f"vid_out_{kind_}"], TOLERANCE)
    angles = text_angles(text).repeat_interleave(2, dim=1).repeat(len(shapes), 1)
    yield compare_max(f"{name} prompt", angles, tensors["txt_angles_3b"], TOLERANCE)
    table = text_table("3b", text, CPU)
    assert table is not None
    turned = rotate_(tensors["txt_q"].clone()[:, None], table.repeat(len(shapes), 1))[:, 0]
    yield compare_max(f"{name} prompt turned", turned, tensors["txt_out_3b"], TOLERANCE)


@kind("3b", "7b")
def published(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every name and shape of the published file, the sidecar, at full size."""
    handles = {key: torch.empty(shape, device="meta") for key, shape in sidecar.items()}
    checkpoint = parse(handles)
    yield exact(
        f"{name} is recognised", checkpoint is not None and checkpoint.config == {"3b": DIT_3B, "7b": DIT_7B}[name]
    )
    assert checkpoint is not None
    with torch.device("meta"):
        wanted = {key: weight.shape for key, weight in build(checkpoint.config).state_dict().items()}
    yield exact(f"{name} names and shapes", {key: h.shape for key, h in checkpoint.weights.items()} == wanted)
    rotary_tables = handles.keys() - checkpoint.weights.keys()
    layers = {f"blocks.{i}.attn.rope.rope.freqs" for i in range(checkpoint.config.layers)}
    yield exact(f"{name} rotary tables", rotary_tables == layers)


def window_rows(entries: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    """Tables of windows: `grid_thw`, `method`, `count`, and the first of the `slices`, fastest along time."""
    for entry in entries:
        grid_, shifted = entry["grid_thw"], "swin" in entry["method"]
        axes = [pieces(n, size, shifted) for n, size in zip(grid_, window_size(*grid_), strict=True)]
        ours = [[list(t), list(h), list(w)] for w, h, t in product(*axes[::-1])]
        name = f"windows {'x'.join(map(str, grid_))} {'shifted' if shifted else 'plain'}"
        yield exact(name, len(ours) == entry["count"] and ours[: len(entry["slices"])] == entry["slices"])


def config_of(arch: str, reference: Mapping[str, Any]) -> DiTConfig:
    """Our sizes of a configuration in the reference's words."""
    dim, layers = reference["vid_dim"], reference["num_layers"]
    if arch == "7b":
        return DiTConfig("7b", dim, layers, hidden=4 * dim, separate=layers, text_dim=reference["txt_in_dim"])
    hidden = -(-(2 * dim * reference["expand_ratio"] // 3) // 256) * 256
    return DiTConfig("3b", dim, layers, hidden, separate=reference["mm_layers"], text_dim=reference["txt_in_dim"])


def tiny(arch: str, reference: Mapping[str, Any]) -> Net:
    """A network with weights by the rule, not yet prepared."""
    return by_rule(config_of(arch, reference))


def by_rule(config: DiTConfig) -> Net:
    """A network with weights by the rule, not yet prepared."""
    with torch.device("meta"):
        net = build(config)
    weights = weights_by_rule({name: weight.shape for name, weight in net.state_dict().items()})
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(False)


def grid(x: Tensor) -> tuple[int, int, int, int]:
    """Clips, frames, rows and columns of tokens of an input."""
    b, t, h, w, _ = x.shape
    return b, t, h // 2, w // 2


class _Traces:
    """Listens to a network: both streams after each layer, and what attention adds to them in the second."""

    def __init__(self, net: Net, size: tuple[int, int, int, int]) -> None:
        self.kinds = layouts(*size, limit=2**30, device=CPU)
        self.heard: dict[str, list[Tensor]] = defaultdict(list)
        for index, block in enumerate(net.layers):
            block.register_forward_hook(self._after_block(index, ("vid",) if block.last else ("vid", "txt")))
        streams = net.layers[1].attn.proj_out
        streams.video.register_forward_hook(self._after("block1.attn.vid"))
        streams.text.register_forward_hook(self._after("block1.attn.txt"))

    def found(self) -> dict[str, Tensor]:
        """By the golden's names, in the grid's order."""
        found = {key: torch.cat(parts) for key, parts in self.heard.items()}
        for key, value in found.items():
            if key.endswith("vid"):
                found[key] = value[self.kinds[int(key[5]) % 2].place]
        return found

    def _after(self, key: str) -> Any:
        def hear(module: nn.Module, args: Any, out: Tensor) -> None:
            self.heard[key].append(out.reshape(-1, out.shape[-1]).clone())

        return hear

    def _after_block(self, index: int, keys: tuple[str, ...]) -> Any:
        def hear(module: nn.Module, args: Any, out: None) -> None:
            for key, stream in zip(keys, args, strict=False):
                self.heard[f"block{index}.{key}"].append(stream.reshape(-1, stream.shape[-1]).clone())

        return hear
