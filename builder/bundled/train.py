"""Train the bundled network: deterministic for a seed, resumable, and made for two patient cores.

On one kind of processor with one version of torch, a seed gives the same weights to the bit, whether or not the run
was interrupted: the batch of each step depends on the seed and the step alone, and the number of threads is fixed.
"""

import dataclasses
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as serialise
from torch import Tensor

from builder.bundled import degrade, pictures, sheets
from builder.bundled.evaluate import held_out_gain
from builder.bundled.pool import Pairs, kept_pairs
from engine.models.esrgan.srvgg import SRVGG, SRVGGConfig

log = logging.getLogger(__name__)

CHECKPOINT_EVERY, JUDGE_EVERY = 500, 2000  # steps


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything besides the seed that the weights depend on. The defaults made the file in the repository."""

    feat: int = 32
    convs: int = 10
    steps: int = 6_000
    horizon: int = 10_000  # steps after which the cosine of the learning rate would reach nothing
    cooling: int = 1_000  # last steps, over which the rate falls to nothing in a straight line
    batch: int = 16
    patch: int = 48  # pixels of the small side
    pictures: int = 2_000
    side: int = 256
    rate: float = 2e-3
    warmup: int = 200
    ema: float = 0.999
    threads: int = 2


def train(recipe: Recipe, seed: int, out: Path, work: Path | None = None) -> str:
    """Write the trained weights to `out` and return their digest. Progress lies in `work` and is taken up again."""
    work = work or _default_work(recipe, seed)
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    pairs = kept_pairs(work, seed, pictures.TRAINING, recipe.pictures, recipe.side)
    run = Run(recipe, seed)
    kept = work / "checkpoint.pt"
    if kept.exists():
        run.load_state_dict(torch.load(kept, weights_only=True))
        log.info("taking up at step %d", run.step)
    while run.step < recipe.steps:
        run.advance(pairs)
        if run.step % CHECKPOINT_EVERY == 0 or run.step == recipe.steps:
            part = kept.with_suffix(".part")
            torch.save(run.state_dict(), part)
            part.rename(kept)
            log.info("step %d: loss %.5f, %.0f s", run.step, run.loss, run.seconds)
        if run.step % JUDGE_EVERY == 0:
            log.info(
                "step %d: %+.2f dB over bicubic on held-out pictures", run.step, held_out_gain(run.averaged(), seed)
            )
    save(out, recipe, seed, run)
    return digest(run.ema)


class Run:
    """The state of a training run between two steps."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe, self.seed = recipe, seed
        torch.manual_seed(seed)
        self.model = _initial(SRVGGConfig(feat=recipe.feat, convs=recipe.convs, scale=2))
        self.ema = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=recipe.rate, betas=(0.9, 0.99))
        self.step, self.seconds, self.loss = 0, 0.0, 0.0

    def advance(self, pairs: Pairs) -> None:
        """One step, its batch drawn from a generator of its own."""
        began = time.perf_counter()
        low, high = batch(pairs, self.recipe, pictures.generator(self.seed, pictures.STEPS, self.step))
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        with torch.autocast("cpu", torch.bfloat16):
            guess = self.model(low)
        loss = charbonnier(guess.float(), high)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(self.recipe.ema, self.step / (self.step + 9))
        for name, tensor in self.model.state_dict().items():
            self.ema[name].lerp_(tensor, 1 - keep)
        self.loss += 0.02 * (loss.item() - self.loss)
        self.seconds += time.perf_counter() - began

    def averaged(self) -> SRVGG:
        """The network with the running mean of its weights, which is what is saved."""
        model = SRVGG(self.model.config)
        model.load_state_dict(self.ema)
        return model.eval()

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimiser": self.optimiser.state_dict(),
            "clock": [self.step, self.seconds, self.loss],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.loss = state["clock"]

    def _rate(self) -> float:
        """A short rise, half a cosine, and a straight fall that cuts it off."""
        recipe = self.recipe
        rise = min(1.0, (self.step + 1) / recipe.warmup)
        fall = min(1.0, (recipe.steps - self.step) / max(recipe.cooling, 1))
        return recipe.rate * rise * fall * 0.5 * (1 + float(np.cos(np.pi * min(self.step / recipe.horizon, 1.0))))


def batch(pairs: Pairs, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random patches, each in one of its eight orientations, as (B, 3, P, P) and (B, 3, 2P, 2P) in [0, 1]."""
    low: list[NDArray[np.uint8]] = []
    high: list[NDArray[np.uint8]] = []
    for _ in range(recipe.batch):
        n = rng.integers(len(pairs.low))
        y, x = rng.integers(0, pairs.low.shape[1] - recipe.patch + 1, 2)
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        for patches, source, scale in ((low, pairs.low, 1), (high, pairs.high, 2)):
            end = recipe.patch * scale
            patch = np.rot90(source[n, y * scale : y * scale + end, x * scale : x * scale + end], turns)
            patches.append(patch[:, ::-1] if mirrored else patch)
    return _tensor(low), _tensor(high)


def charbonnier(guess: Tensor, truth: Tensor, near: float = 2e-3) -> Tensor:
    """The mean absolute error, rounded off below `near`."""
    return torch.sqrt((guess - truth).square() + near**2).mean()


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and the numbers, whatever else the file says."""
    held = hashlib.sha256()
    for name in sorted(weights):
        held.update(name.encode() + weights[name].float().numpy().tobytes())
    return held.hexdigest()


def save(out: Path, recipe: Recipe, seed: int, run: Run) -> None:
    facts = {
        "architecture": "SRVGGNetCompact",
        "seed": seed,
        "recipe": dataclasses.asdict(recipe),
        "training_seconds": round(run.seconds),
        "torch": torch.__version__,
        "digest": digest(run.ema),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    # Written by us: the library's own writer makes files that only their owner may read.
    tensors = {name: tensor.contiguous() for name, tensor in run.ema.items()}
    part.write_bytes(serialise(tensors, {"about": json.dumps(facts, sort_keys=True)}))
    part.rename(out)


def _initial(config: SRVGGConfig) -> SRVGG:
    """Small weights about the identity, channels last: a chain without shortcuts learns sooner from there."""
    model = SRVGG(config)
    convs = [layer for layer in model.body if isinstance(layer, torch.nn.Conv2d)]
    for layer in convs:
        torch.nn.init.kaiming_normal_(layer.weight, a=0.25)
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)
        with torch.no_grad():
            if layer.weight.shape[0] == layer.weight.shape[1]:
                layer.weight.mul_(0.3)
                layer.weight[:, :, 1, 1] += torch.eye(config.feat)
    with torch.no_grad():
        convs[-1].weight.mul_(0.1)
    for weight in model.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return model


def _tensor(patches: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float().div_(255)


def _default_work(recipe: Recipe, seed: int) -> Path:
    """A folder that belongs to this recipe, this seed and the code that draws the pictures."""
    held = hashlib.sha256(json.dumps([dataclasses.asdict(recipe), seed]).encode())
    for module in (sheets, pictures, degrade):
        held.update(Path(str(module.__file__)).read_bytes())
    return Path(tempfile.gettempdir()) / f"bundled-{held.hexdigest()[:12]}"
