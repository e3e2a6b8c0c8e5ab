"""Goldens of whole SeedVR2 runs: images (T, h, w, 3|4) in [0, 1] -> latents, results of the diffusion, decoded, final.

Networks and weights come from the sidecar and the rule. The parts are the pipeline's own; only the conversion from and
to the frames' integers, which the goldens do not know, is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.pipelines.alpha import enlarge_alpha
from engine.pipelines.frames import resize
from engine.pipelines.seedvr2.batches import Batches
from engine.pipelines.seedvr2.finish import restored
from engine.pipelines.seedvr2.networks import Networks
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.pipeline import blend
from engine.pipelines.seedvr2.plan import Plan
from engine.pipelines.seedvr2.preparation import clip_indices, prepare
from tests.parity.rows import Row, compare_max, compare_mean, compare_share, kind
from tests.parity.seedvr2_dit import tiny
from tests.parity.seedvr2_vae import vae_by_rule

LATENT, DECODED = 1e-4, 2e-4
BY_RANK = ("lab", "hsv", "wavelet_adaptive")  # where a decoder's last digit can send a pixel to another rank
CPU = torch.device("cpu")


@kind("pipe3b_", "pipe7b_")
def pipelines(name: str, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    """Every batch's latent and result, the whole decoded, and the whole finished."""
    with torch.inference_mode():
        nets = networks(sidecar, tensors["txt"])
        run = Run(nets, tensors, sidecar)
        for key, got in run.parts():
            yield compare_max(f"{name} {key}", got, tensors[key], DECODED if key == "decoded_out" else LATENT)
        yield from _final_rows(name, run, tensors["decoded_out"], tensors["final_out"])


def networks(sidecar: Mapping[str, Any], text: Tensor) -> Networks:
    """The sidecar's two networks, prepared."""
    dit = tiny(sidecar["dit_arch"], sidecar["dit_config"])
    dit.prepare(text)
    vae, _ = vae_by_rule(sidecar["vae_config"])
    return Networks(dit, vae, CPU, torch.float32)


class Run:
    """One golden's job, batch by batch."""

    def __init__(self, nets: Networks, tensors: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> None:
        params, info = sidecar["params"], sidecar["info"]
        self.nets = nets
        self.images = tensors["images"].movedim(-1, 1)
        self.size = info["true_h"], info["true_w"]
        self.uniform = params["batch_size"] if params.get("uniform_batch_size") else 0
        self.prepend = params.get("prepend_frames", 0)
        self.plan = Plan(params["batch_size"], params.get("temporal_overlap", 0), 0, 0, 0, False, 0)
        self.options = SeedVR2Options(free_bytes=0, color_correction=params["color_correction"])
        self.noise = [tensors[f"noise{n}"] for n in range(len(tensors)) if f"noise{n}" in tensors]
        self.slices: list[list[int]] = []  # the frames of each batch that no earlier one has given
        self.decoded = torch.empty(0)

    def parts(self) -> Iterator[tuple[str, Tensor]]:
        """Intermediate results under the golden's names, the decoded video last."""
        batches = Batches(range(len(self.images)), lambda frame: False, self.prepend)
        made: list[Tensor] = []
        for n, noise in enumerate(self.noise):
            batch = batches.take(self.plan.batch, self.plan.overlap)
            assert batch is not None
            x = prepare(self.images[batch.frames, :3], *self.size)
            clip = x[clip_indices(len(batch.frames), self.uniform)].movedim(0, 1)[None]
            latent = self.nets.encode(clip, self.plan, _go_on)
            yield f"latent{n}", latent[0]
            latent = self.nets.restore(latent, noise[None], self.plan, _go_on)
            yield f"upscaled_out{n}", latent[0]
            y = self.nets.decode(latent, self.plan, _go_on)[0].movedim(0, 1)
            y = y[: len(batch.frames), :, : self.size[0], : self.size[1]]
            if made:
                blend(made[-1], y, batch.shared)
            made.append(y[batch.shared :])
            self.slices.append(batch.frames[batch.shared :])
            batches.done(batch, self.plan.overlap)
        assert batches.take(self.plan.batch, self.plan.overlap) is None
        self.decoded = torch.cat(made).movedim(1, -1)
        yield "decoded_out", self.decoded

    def final(self, decoded: Tensor, turned: Sequence[int] = ()) -> Tensor:
        """The finished video (T, H, W, 3|4) of a decoded one; `turned` axes of (T, 3, H, W) are turned around for the
        corrections and back again."""
        made = []
        for frames, y in zip(self.slices, decoded.movedim(-1, 1).split([len(s) for s in self.slices]), strict=True):
            plain = resize(self.images[frames, :3], *self.size).clamp(0, 1)
            out = restored(y.flip(turned), plain.flip(turned), self.options).flip(turned)
            if self.images.shape[1] == 4:
                out = torch.cat((out, enlarge_alpha(self.images[frames, 3:], y)), dim=1)
            made.append(out)
        return torch.cat(made).movedim(1, -1)[self.prepend :]

    def ranked(self, decoded: Tensor) -> Tensor:
        """True where a value's rank does not depend on which of equal values comes first: equal ones change places
        when the picture is turned around."""
        seen = self.final(decoded)
        turns = ((2,), (3,), (0, 2, 3))
        return torch.stack([(self.final(decoded, turn) - seen).abs() < 1e-5 for turn in turns]).all(0)


def _final_rows(name: str, run: Run, decoded: Tensor, wanted: Tensor) -> Iterator[Row]:
    if run.options.color_correction not in BY_RANK:
        yield compare_max(f"{name} final_out", run.final(run.decoded), wanted, DECODED)
        return
    end_to_end, alone, ranked = run.final(run.decoded), run.final(decoded), run.ranked(decoded)
    yield compare_mean(f"{name} final of decoded_out", alone[ranked], wanted[ranked], 1e-5)
    yield compare_share(f"{name} final of decoded_out", alone[ranked], wanted[ranked], LATENT, 1e-3)
    yield compare_mean(f"{name} final_out", end_to_end[ranked], wanted[ranked], 5e-5)
    yield compare_share(f"{name} final_out", end_to_end[ranked], wanted[ranked], 2e-4, 1e-3)


def _go_on() -> None:
    pass
