"""Goldens of SeedVR2's arithmetic outside its networks: colour corrections, alpha, preparation, and tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.pipelines.alpha import enlarge_alpha
from engine.pipelines.color import METHODS, correct
from engine.pipelines.frames import resize
from engine.pipelines.seedvr2.batches import mirrored_front
from engine.pipelines.seedvr2.preparation import blend_weights, clip_indices, mirrored_tail, prepare
from engine.pipelines.seedvr2.sampling import shifted_timestep
from tests.parity.rows import Row, compare, compare_max, compare_mean, compare_share, exact, kind
from tests.parity.seedvr2_dit import window_rows

SWAPPED = {"lab": 5e-3}


@kind("color_")
def colors(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Each method's result. Where two values lie closer than rounding, their ranks swap, and with them their results.

    In lab's 28,000 values to a channel that happens to 0.4 % of pixels: in the golden against the same formulas in
    float64 (0.39 %) as in ours (0.35 %).
    """
    for method in METHODS:
        if (wanted := tensors.get(f"{method}_out")) is not None:
            got = correct(tensors["content"], tensors["style"], method)
            yield compare_mean(f"{name} {method}", got, wanted, 1e-6)
            yield compare_share(f"{name} {method}", got, wanted, 1e-5, SWAPPED.get(method, 1e-3))
            yield compare_max(f"{name} {method}", got, wanted, 1e-3)


@kind("alpha")
def alpha(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Both ways with alpha: soft ones and masks."""
    for which in ("grad", "bin"):
        got = enlarge_alpha(tensors[f"alpha_{which}"], tensors["rgb_up"])
        yield compare_max(f"{name} {which}", got, tensors[f"{which}_out"], 1e-4)


@kind("preprocess")
def preprocess(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """What the encoder is given, and the resize alone at another size."""
    x, area = tensors["x"], tensors["area_resized_out"]
    short, long = sorted(x.shape[2:])
    edges = (sidecar["resolution"], int(sidecar["resolution"] * long / short))
    size = edges if x.shape[2] < x.shape[3] else edges[::-1]
    yield compare_max(f"{name} prepared", prepare(x, *size).transpose(0, 1), tensors["side_out"], 1e-5)
    yield compare_max(f"{name} resized", resize(x, *area.shape[2:]), area, 1e-5)


@kind("tables")
def tables(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Everything that is numbers only."""
    yield from timestep_rows(sidecar["timestep_shift"])
    yield from pad_rows(sidecar["temporal_pad_index"])
    yield from blend_rows(sidecar["temporal_blend_weight_prev"])
    yield from resize_rows(sidecar["resize_dims"])
    yield from window_rows(sidecar["windows"])


def timestep_rows(entries: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    """Timesteps `t_in` shifted to `t_out` for latents of `latent_thw`."""
    for entry in entries:
        size = entry["latent_thw"]
        got, wanted = (torch.tensor([t]) for t in (shifted_timestep(entry["t_in"], *size), entry["t_out"]))
        name = f"timestep {entry['t_in']} for {'x'.join(map(str, size))}"
        yield compare(name, got, wanted, 1e-6)


def pad_rows(entries: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    """Indices `idx` of clips of `n` frames with `count` more, at the end or in front; 0 more stands for 4 k + 1."""
    for entry in entries:
        n, count = entry["n"], entry["count"]
        if entry["prepend"]:
            ours = mirrored_front(list(range(n)), count) + list(range(n))
        else:
            ours = mirrored_tail(n, n + count) if count else clip_indices(n)
        yield exact(f"pad {n} by {count}{' in front' if entry['prepend'] else ''}", ours == entry["idx"])


def blend_rows(entries: Mapping[str, list[float]]) -> Iterable[Row]:
    """The earlier clip's weights by overlap."""
    for overlap, weights in entries.items():
        yield compare_max(f"blend {overlap}", blend_weights(int(overlap)), torch.tensor(weights), 1e-6)


def resize_rows(entries: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    """Padded sizes. Which size a picture is resized to is for the job to say, and rounded otherwise than upstream."""
    for entry in entries:
        height, width = entry["resized_hw"]
        padded = prepare(torch.zeros(1, 3, height, width), height, width).shape[2:]
        yield exact(f"padded {height}x{width}", list(padded) == entry["padded_hw"])
