"""Wan2.1's pipeline with tiny networks: what its goldens say from end to end, and what holds when things go wrong."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.errors import Cancelled, Internal, InvalidInput, OutOfMemory, Problem
from engine.frames import RGB24, Frame, Raster
from engine.pipelines.generator import Source
from engine.pipelines.protocol import UNWATCHED, Unwatched
from engine.pipelines.wan.networks import Networks
from engine.pipelines.wan.options import LoraFile, WanOptions
from engine.pipelines.wan.pipeline import Wan
from engine.pipelines.wan.prompts import Tokens
from tests.parity.wan_dit import by_rule, config_of
from tests.parity.wan_pipe import SEEDS, networks

GOLDENS = Path(__file__).parents[1] / "data" / "goldens" / "wan"
FREE = 2**40


class Golden:
    """A golden's networks, behind a tokenizer that knows its two prompts and gives any other the first one's tokens."""

    def __init__(self, task: str) -> None:
        self.tensors: dict[str, Any] = load_file(GOLDENS / f"e2e_{task}_a.safetensors")
        self.told = json.loads((GOLDENS / f"e2e_{task}_a.json").read_text())
        self.built: list[tuple[LoraFile, ...]] = []
        self.fails: list[Exception] = []
        self.networks = networks(self.told)
        self.old = ref(self.networks.dit)
        self.wan = Wan(self.networks, self.tokens, "tiny", negative="the negative one", build=self.build)  # type: ignore[arg-type]
        frames, height, width = self.told.get("fhw") or (self.told["frames"], *self.told["out_size"])
        self.raster = Raster(width, height, RGB24)
        self.options = WanOptions(
            task=task,  # type: ignore[arg-type]
            prompt="the prompt",
            frames=frames,
            width=width,
            height=height,
            steps=self.told["steps"],
            guidance=self.told["guide"],
            shift=self.told["shift"],
            solver="unipc",
            seed=SEEDS[f"e2e_{task}"],
            free_bytes=FREE,
        )

    def tokens(self, text: str) -> Tokens:
        which = int("negative" in text)
        length = int(self.tensors["mask"][which].sum())
        return Tokens(self.tensors["ids"][which, :length].tolist(), cut=7 if "long" in text else 0)

    def build(self, loras: tuple[LoraFile, ...]) -> Any:
        """Weights by the rule, whatever the LoRAs."""
        if any(lora.name == "of another model" for lora in loras):
            raise InvalidInput([Problem("loras", "does not fit")])

        def load(place: torch.device, arrived: Any) -> Any:
            assert self.old() is None, "two transformers would be in memory"
            self.built.append(loras)
            if self.fails:
                raise self.fails.pop()
            arrived(1)
            dit = by_rule(config_of(self.told["dit"]))
            dit.prepare(place)
            self.old = ref(dit)
            return dit

        return load

    def made(self, source: Source | None = None, watch: Any = UNWATCHED, **changes: Any) -> list[Frame]:
        options = replace(self.options, **changes)
        raster = Raster(options.width, options.height, RGB24)
        return [*self.wan(source, raster, options, watch)]


@pytest.fixture
def golden() -> Golden:
    return Golden("t2v")


def video(frames: list[Frame]) -> torch.Tensor:
    """(3, F, H, W) in codes"""
    return torch.from_numpy(np.stack([frame.planes[0] for frame in frames])).permute(3, 0, 1, 2).float()


def wanted(golden: Golden, key: str) -> torch.Tensor:
    return golden.tensors[key].add(1).div(2).mul(255)


def assert_within_a_code(got: torch.Tensor, codes: torch.Tensor) -> None:
    assert got.shape == codes.shape
    assert (got - codes).abs().max() <= 1  # rounded, and dithered by less than half


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_a_prompt_becomes_the_golden_video(golden: Golden, solver: str) -> None:
    frames = golden.made(solver=solver)
    assert_within_a_code(video(frames), wanted(golden, f"{solver}_video"))
    assert [frame.time for frame in frames] == [Fraction(i, 16) for i in range(9)]
    assert golden.wan.seconds.keys() == {"text", "sample", "decode"}
    assert golden.wan.notes == []


def test_an_image_becomes_the_golden_video(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = Golden("i2v")
    features = golden.tensors["clip_fea"][0]
    monkeypatch.setattr(Networks, "encode_image", lambda self, picture, plan: features)  # its CLIP is another size
    golden.networks._homes["image"] = golden.networks._homes["text"]
    image = golden.tensors["image_u8"].numpy()
    source = Source([Frame((image,), Fraction(0))], Raster(70, 45, RGB24))
    assert_within_a_code(video(golden.made(source)), wanted(golden, "unipc_video"))
    assert golden.wan.seconds.keys() == {"text", "image", "encode", "sample", "decode"}


def test_a_video_is_followed_as_far_as_strength_leaves_it() -> None:
    golden = Golden("v2v")
    given = golden.tensors["video01"].mul(255).round().to(torch.uint8).movedim(1, -1).numpy()
    source = Source([Frame((frame,), Fraction(i, 16)) for i, frame in enumerate(given)], golden.raster)
    kept = video(golden.made(source, strength=0.0))
    changed = video(golden.made(source, strength=0.7))
    free = video(golden.made(source, strength=1.0))
    alone = video(golden.made(task="t2v"))
    assert not torch.equal(kept, changed)
    assert (free - alone).abs().max() <= 2  # at the highest level all but nothing is left of the source


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_exactly_as_many_frames_come_as_were_asked_for(golden: Golden, frames: int) -> None:
    assert len(golden.made(frames=frames, steps=1)) == frames


def test_more_frames_than_the_network_knows_are_made_by_windows_which_is_said(golden: Golden) -> None:
    assert len(golden.made(frames=90, steps=1, width=16, height=16)) == 90
    (note,) = golden.wan.notes
    assert note.code == "WINDOWS"
    assert "2 overlapping windows" in note.message


def test_the_same_seed_gives_the_same_video_and_another_one_another(golden: Golden) -> None:
    first, again, other = (video(golden.made(seed=seed, steps=2)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_prompt_is_encoded_once_however_often_it_comes(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    encode = Networks.encode_text

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return encode(*arguments)

    monkeypatch.setattr(Networks, "encode_text", counted)
    first = video(golden.made(steps=1))
    assert torch.equal(video(golden.made(steps=1)), first)
    assert calls == 2
    golden.made(steps=1, prompt="another")
    assert calls == 3


def test_without_guidance_no_negative_prompt_is_read(golden: Golden) -> None:
    golden.made(steps=1, guidance=1.0)
    assert "the negative one" not in golden.wan._texts
    golden.made(steps=1)
    assert "the negative one" in golden.wan._texts


def test_a_prompt_that_is_cut_is_said_to_be(golden: Golden) -> None:
    golden.made(steps=1, prompt="long", negative="a long one, too")
    assert [note.message.partition(" ")[0] for note in golden.wan.notes] == ["`prompt`", "`negative_prompt`"]
    assert {note.code for note in golden.wan.notes} == {"PROMPT_CUT"}


class Stop(Exception):
    pass


@dataclass
class Watcher:
    """Notes what it is told; stops the work when `stop_at` steps are done."""

    stop_at: int | None = None
    steps: list[tuple[int, int]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def check(self) -> None:
        if self.stop_at is not None and self.steps and self.steps[-1][0] == self.stop_at:
            raise Stop

    def phase(self, name: str, done: float) -> None:
        self.phases.append(name)

    def step(self, done: int, total: int) -> None:
        self.steps.append((done, total))


def test_every_step_is_told(golden: Golden) -> None:
    watch = Watcher()
    golden.made(watch=watch)
    assert watch.steps == [(done, 5) for done in range(6)]
    assert watch.phases == ["text", "sample", "decode"]


@pytest.mark.parametrize("step", range(6))
def test_work_stops_at_any_step_and_leaves_nothing_behind(golden: Golden, step: int) -> None:
    with pytest.raises(Stop):
        golden.made(watch=Watcher(stop_at=step))
    assert_within_a_code(video(golden.made()), wanted(golden, "unipc_video"))


def out_of_memory_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, on_call: int = 1) -> None:
    work, calls = getattr(owner, name), 0

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == on_call:
            raise torch.OutOfMemoryError
        return work(*arguments, **named)

    monkeypatch.setattr(owner, name, failing)


def test_sampling_goes_on_from_the_step_that_memory_ran_out_at(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count(monkeypatch, golden.networks.dit, "forward")
    out_of_memory_once(monkeypatch, golden.networks.dit, "forward", on_call=3)
    frames = golden.made()
    assert_within_a_code(video(frames), wanted(golden, "unipc_video"))
    assert [note.code for note in golden.wan.notes] == ["REDUCED_PLAN"]
    assert golden.wan.plan.as_reply()["guidance_in_one_pass"] is False
    assert golden.wan.plan.attempts == 2
    assert calls() == 2 + 2 * 3  # two steps in one pass, three in two


def count(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Any:
    work, calls = getattr(owner, name), 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return work(*arguments, **named)

    monkeypatch.setattr(owner, name, counted)
    return lambda: calls


@pytest.mark.parametrize("frame", [1, 4])
def test_what_was_sampled_outlives_a_decoder_without_memory(
    golden: Golden, monkeypatch: pytest.MonkeyPatch, frame: int
) -> None:
    """The decoder breaks off at some frame; what follows comes from tiles, and nothing is sampled again."""
    size = {"width": 288, "height": 272, "frames": 5, "steps": 1}
    whole = video(golden.made(**size))
    calls = count(monkeypatch, golden.networks.dit, "forward")
    decode = golden.networks.vae.decode

    def failing(z: torch.Tensor, check: Any) -> Iterator[torch.Tensor]:
        for at, part in enumerate(decode(z, check), 1):
            if at == frame:
                raise torch.OutOfMemoryError
            yield part

    monkeypatch.setattr(golden.networks.vae, "decode", failing)
    tiled = video(golden.made(**size))
    assert tiled.shape == whole.shape
    assert torch.equal(tiled[:, : frame - 1], whole[:, : frame - 1])
    assert (tiled - whole).abs().mean() < 20  # tiles of noisy nets differ, but show the same
    assert golden.wan.plan.as_reply()["tile"] == 256
    assert calls() == 1


def test_where_nothing_is_thriftier_the_plan_that_failed_is_told(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(golden.networks.text, "forward", failing)
    with pytest.raises(OutOfMemory, match="did not fit into"):
        golden.made()


def test_values_that_are_no_numbers_are_an_internal_error(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = golden.networks.dit.forward
    monkeypatch.setattr(golden.networks.dit, "forward", lambda *a: forward(*a) * torch.nan)
    with pytest.raises(Internal, match="no numbers"):
        golden.made()


def test_the_transformer_is_built_anew_only_when_the_loras_change(golden: Golden) -> None:
    lora = LoraFile("fast", Path("fast.safetensors"), 1.0)
    for loras in ((), (lora,), (lora,), (replace(lora, strength=0.5),), ()):
        golden.made(steps=1, loras=loras)
    assert golden.built == [(lora,), (replace(lora, strength=0.5),), ()]


def test_a_lora_that_does_not_fit_costs_nothing(golden: Golden) -> None:
    with pytest.raises(InvalidInput):
        golden.made(steps=1, loras=(LoraFile("of another model", Path("x"), 1.0),))
    golden.made(steps=1)
    assert golden.built == []


def test_where_loras_find_no_room_on_the_device_the_transformer_waits_on_the_host(golden: Golden) -> None:
    lora = LoraFile("fast", Path("fast.safetensors"), 1.0)
    golden.fails = [torch.OutOfMemoryError()]
    golden.made(steps=1, loras=(lora,))
    assert golden.built == [(lora,), (lora,)]


def test_a_change_of_loras_that_breaks_off_is_made_up_for_by_the_next_job(golden: Golden) -> None:
    golden.fails = [OSError("the disk")]
    with pytest.raises(OSError, match="the disk"):
        golden.made(steps=1, loras=(LoraFile("fast", Path("fast.safetensors"), 1.0),))
    assert_within_a_code(video(golden.made()), wanted(golden, "unipc_video"))


def test_a_change_of_loras_stops_with_its_job(golden: Golden) -> None:
    class Stopped(Unwatched):
        def check(self) -> None:
            if golden.built:
                raise Cancelled("the job was cancelled")

    lora = LoraFile("fast", Path("fast.safetensors"), 1.0)
    with pytest.raises(Cancelled):
        golden.made(watch=Stopped(), steps=1, loras=(lora,))
    golden.made(steps=1, loras=(lora,))
    assert golden.built == [(lora,), (lora,)]


def test_a_picture_that_was_encoded_by_tiles_is_encoded_anew_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    golden = Golden("i2v")
    features = golden.tensors["clip_fea"][0]
    monkeypatch.setattr(Networks, "encode_image", lambda self, picture, plan: features)
    golden.networks._homes["image"] = golden.networks._homes["text"]
    source = Source([Frame((golden.tensors["image_u8"].numpy(),), Fraction(0))], Raster(70, 45, RGB24))
    tiles: list[int] = []
    encode = Networks.encode_still

    def seen(self: Networks, frame: torch.Tensor, frames: int, plan: Any, check: Any) -> torch.Tensor:
        tiles.append(plan.tile)
        if len(tiles) == 1:
            raise torch.OutOfMemoryError
        return encode(self, frame, frames, plan, check)

    monkeypatch.setattr(Networks, "encode_still", seen)
    for _ in range(3):
        golden.made(source, width=288, height=272, frames=5, steps=1)
    assert tiles == [0, 256, 0]  # and the third time from memory


def test_warming_runs_a_tiny_video(golden: Golden) -> None:
    assert golden.wan.warm(FREE) > 0
    assert golden.wan.seconds.keys() == {"text", "sample", "decode"}
