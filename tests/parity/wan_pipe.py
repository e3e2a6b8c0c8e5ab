"""Goldens of whole Wan2.1 runs: tokens -> the prompt's rows -> latents after each step -> frames.

Networks and weights come from the sidecar and the rule. The parts are the pipeline's own; what turns text into tokens
and frames into codes is left out. CLIP's features are the golden's, whose tiny CLIP sees smaller pictures than ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.models.wan.vae_config import WanVAEConfig
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.preparation import condition, first_frame
from engine.pipelines.wan.sampling import Denoiser, draw_noise
from engine.pipelines.wan.schedules import Kind, Schedule, schedule
from engine.pipelines.wan.solvers import solver
from tests.parity.rows import Row, compare_max, exact, kind
from tests.parity.wan_dit import by_rule, config_of
from tests.parity.wan_solvers import diffusers_schedule
from tests.parity.wan_text import umt5_by_rule
from tests.parity.wan_vae import wan_vae_by_rule

CPU = torch.device("cpu")
RUN = 1e-3  # of the wanted values' spread
SEEDS = {"e2e_t2v": 61, "e2e_i2v": 62, "e2e_v2v": 63}


@kind("e2e_t2v")
def from_text(name: str, golden: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    run = Run(name, golden, sidecar)
    yield from run.prompts()
    ways: tuple[Kind, ...] = ("unipc", "dpm++")
    for way in ways:
        steps = run.steps(way, schedule(way, sidecar["steps"], sidecar["shift"]), golden["noise"])
        yield run.compare(f"{way} latents", steps, golden[f"{way}_latents_per_step"])
        yield run.compare(f"{way} video", run.decoded(steps[-1]), golden[f"{way}_video"])
    other = run.steps("unipc", diffusers_schedule(sidecar["steps"], sidecar["shift"]), golden["noise"])
    yield run.compare("diffusers' levels", other[-1], golden["diffusers_latents"])


@kind("e2e_i2v")
def from_an_image(name: str, golden: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    run = Run(name, golden, sidecar)
    yield from run.prompts()
    image = golden["image_u8"].movedim(-1, 0)[None] / 127.5 - 1
    with torch.inference_mode():
        still = first_frame(image, *sidecar["out_size"], "keep")
        run.condition = condition(run.nets.vae.encode_still(still, sidecar["frames"])[0])
    yield run.compare("condition", run.condition, golden["y"])
    ways: tuple[Kind, ...] = ("unipc", "dpm++")
    for way in ways:
        steps = run.steps(way, schedule(way, sidecar["steps"], sidecar["shift"]), golden["noise"])
        yield run.compare(f"{way} latents", steps, golden[f"{way}_latents_per_step"])
        yield run.compare(f"{way} video", run.decoded(steps[-1]), golden[f"{way}_video"])


@kind("e2e_v2v")
def from_a_video(name: str, golden: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> Iterable[Row]:
    run = Run(name, golden, sidecar)
    yield from run.prompts()
    with torch.inference_mode():
        source = run.nets.vae.encode(golden["video01"].mul(2).sub(1)[:, None])[0]
    yield run.compare("source", source, golden["source_latents"])
    for levels, wanted in (
        (diffusers_schedule(sidecar["steps"], sidecar["shift"]), "latents_per_step"),
        (schedule("unipc", sidecar["steps"], sidecar["shift"]), "official_sched_latents_per_step"),
    ):
        rest = levels.rest(sidecar["strength"])
        noised = torch.lerp(source, golden["noise"], rest.sigmas[0])
        steps = run.steps("unipc", rest, noised)
        yield run.compare(wanted, steps, golden[wanted])
        if wanted == "latents_per_step":
            yield run.compare("noised", noised, golden["noised_init"])
            yield run.compare("video", run.decoded(steps[-1]), golden["video_out"])


class Run:
    """One golden's job."""

    def __init__(self, name: str, golden: Mapping[str, Tensor], sidecar: Mapping[str, Any]) -> None:
        self.name, self.golden, self.guidance = name, golden, sidecar["guide"]
        self.nets = networks(sidecar)
        self.condition: Tensor | None = None
        self.features = golden["clip_fea"][0] if "clip_fea" in golden else None
        lengths = golden["mask"].sum(1).tolist()
        with torch.inference_mode():
            ids = zip(golden["ids"], lengths, strict=True)
            self.rows = [self.nets.text(prompt[:length]) for prompt, length in ids]

    def prompts(self) -> Iterator[Row]:
        for rows, wanted in zip(self.rows, ("context", "context_null"), strict=True):
            yield self.compare(wanted, rows, self.golden[wanted])
        drawn = draw_noise(*self.golden["noise"].shape[1:], SEEDS[self.name.rpartition("_")[0]])
        yield exact(f"{self.name} noise of the seed", torch.equal(drawn, self.golden["noise"]))

    def steps(self, way: Kind, levels: Schedule, x: Tensor) -> Tensor:
        """Latents after each step, guidance in one pass and in two by turns."""
        with torch.inference_mode():
            contexts = [self.nets.context(rows, self.features) for rows in self.rows]
            denoiser = Denoiser(self.nets.dit, contexts, self.guidance, self.condition, torch.float32)
            steps, seen = solver(way, levels), []
            for done, timestep in enumerate(levels.timesteps):
                v = denoiser.velocity(x, timestep, batched=done % 2 == 0, check=lambda: None)
                seen.append(x := steps.step(x, v))
        return torch.stack(seen)

    def decoded(self, latents: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([*self.nets.vae.decode(latents[None])], dim=2)[0]

    def compare(self, what: str, got: Tensor, wanted: Tensor) -> Row:
        spread = (wanted.max() - wanted.min()).item()
        return compare_max(f"{self.name} {what}", got, wanted, RUN * spread)


def networks(sidecar: Mapping[str, Any]) -> Networks:
    """The sidecar's networks, prepared, without CLIP."""
    dit = by_rule(config_of(sidecar["dit"]))
    dit.prepare()
    vae = wan_vae_by_rule(WanVAEConfig(sidecar["vae"]["dim"]))
    return Networks(umt5_by_rule(sidecar["t5"]), None, dit, vae, CPU, torch.float32)
