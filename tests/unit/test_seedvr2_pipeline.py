"""SeedVR2 from frames to frames with tiny networks: what is kept of a stream, and what happens when things go wrong."""

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.errors import Internal, OutOfMemory
from engine.frames import RGB24, RGBA32, Frame, PixelFormat, Raster
from engine.pipelines.frames import resize, to_rgb
from engine.pipelines.protocol import UNWATCHED, Watch
from engine.pipelines.seedvr2.networks import Networks
from engine.pipelines.seedvr2.options import SeedVR2Options
from engine.pipelines.seedvr2.pipeline import SeedVR2
from tests.parity.seedvr2_pipe import Run, networks

GOLDENS = Path(__file__).parents[1] / "data" / "goldens" / "seedvr2"
SOURCE, TARGET = Raster(40, 24, RGB24), Raster(64, 48, RGB24)
ROOMY = 10**12


@pytest.fixture(scope="module")
def nets() -> Networks:
    golden = GOLDENS / "pipe3b_t5_lab"
    text = load_file(golden.with_suffix(".safetensors"))["txt"]
    return networks(json.loads(golden.with_suffix(".json").read_text()), text)


@pytest.fixture
def model(nets: Networks) -> SeedVR2:
    return SeedVR2(nets, "tiny")


def shot(count: int, seed: int = 0, channels: int = 3) -> list[Frame]:
    """A smooth picture that moves by a pixel a frame."""
    grid = torch.rand(1, channels, 6, 10 + count, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(grid, size=(24, 40 + count), mode="bicubic").clamp(0, 1)[0]
    codes = (wide * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return [Frame((codes[:, n : n + 40].copy(),), Fraction(n, 25), Fraction(1, 25)) for n in range(count)]


def options(**wanted: object) -> SeedVR2Options:
    return SeedVR2Options(**{"free_bytes": ROOMY, "batch_size": 5, "temporal_overlap": 2, **wanted})  # type: ignore[arg-type]


def run(model: SeedVR2, frames: list[Frame], watch: Watch = UNWATCHED, **wanted: object) -> list[Frame]:
    return list(model(iter(frames), SOURCE, TARGET, options(**wanted), watch))


def pixels(frames: list[Frame]) -> np.ndarray:
    return np.stack([frame.planes[0] for frame in frames]).astype(int)


@pytest.mark.parametrize(
    "name", ["pipe3b_img_wavelet", "pipe3b_prepend_none", "pipe3b_rgba", "pipe3b_t7_uniform", "pipe7b_t11_overlap"]
)
def test_the_stream_is_what_the_goldens_prove_piece_by_piece(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their images in 16 bits through the whole pipeline, and through its parts as parity takes them.

    The frames have little in common, and upstream knows no cuts.
    """
    monkeypatch.setattr("engine.pipelines.seedvr2.pipeline.Cuts.is_cut", lambda self, frame: False)
    tensors = load_file(GOLDENS / f"{name}.safetensors")
    sidecar = json.loads((GOLDENS / f"{name}.json").read_text())
    codes = (tensors["images"] * 65535).round().to(torch.uint16)
    tensors["images"] = codes.float() / 65535
    made = networks(sidecar, tensors["txt"])
    with torch.inference_mode():
        parts = Run(made, tensors, sidecar)
        decoded = dict(parts.parts())["decoded_out"]
        wanted = parts.final(decoded)
    count, height, width, channels = tensors["images"].shape
    params = sidecar["params"]
    asked = SeedVR2Options(
        free_bytes=ROOMY,
        batch_size=params["batch_size"],
        temporal_overlap=params.get("temporal_overlap", 0),
        uniform_batch_size=params.get("uniform_batch_size", False),
        prepend_frames=params.get("prepend_frames", 0),
        color_correction=params["color_correction"],
    )
    pixel = PixelFormat("rgb", 16, alpha=channels == 4)
    target = Raster(wanted.shape[2], wanted.shape[1], pixel)
    frames = [Frame((code.numpy(),), Fraction(n)) for n, code in enumerate(codes)]
    stream = list(SeedVR2(made, name)(frames, Raster(width, height, pixel), target, asked))
    assert len(stream) == count
    got = torch.from_numpy(pixels(stream)) / 65535
    assert (got - wanted.clamp(0, 1)).abs().max() < 2e-4


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 8, 9, 11])
def test_as_many_frames_come_out_as_went_in_each_in_its_place(model: SeedVR2, count: int) -> None:
    frames = shot(count)
    made = run(model, frames)
    assert [(f.time, f.duration) for f in made] == [(f.time, f.duration) for f in frames]
    assert {f.planes[0].shape for f in made} == {(48, 64, 3)}


def test_a_scene_is_the_same_wherever_it_stands(model: SeedVR2) -> None:
    first, second = shot(7, seed=1), shot(8, seed=2)
    both = run(model, first + second)
    assert np.array_equal(pixels(both[:7]), pixels(run(model, first)))
    assert np.array_equal(pixels(both[7:]), pixels(run(model, second)))


def test_frames_put_in_front_are_not_in_the_result(model: SeedVR2) -> None:
    made = run(model, shot(6), prepend_frames=3)
    assert [f.time for f in made] == [Fraction(n, 25) for n in range(6)]
    assert not np.array_equal(pixels(made), pixels(run(model, shot(6))))


def test_without_time_every_frame_is_restored_as_if_it_were_alone(model: SeedVR2) -> None:
    frames = shot(3)
    wanted = {"temporal": False, "input_noise_scale": 0.5, "latent_noise_scale": 0.5}
    together = run(model, frames, batch_size=3, **wanted)
    alone = [run(model, [frame], **wanted)[0] for frame in frames]
    assert np.abs(pixels(together) - pixels(alone)).max() <= 1


def test_no_strength_is_the_plain_resize(model: SeedVR2) -> None:
    frames = shot(2)
    plain = resize(to_rgb(frames, SOURCE, torch.device("cpu"), torch.float32), 48, 64).clamp(0, 1)
    made = torch.from_numpy(pixels(run(model, frames, strength=0.0))).permute(0, 3, 1, 2) / 255
    assert (made - plain).abs().max() <= 1 / 255


def test_another_seed_gives_another_picture_and_the_same_the_same(model: SeedVR2) -> None:
    frames = shot(1)
    first, again, other = (pixels(run(model, frames, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_alpha_comes_along(model: SeedVR2) -> None:
    target = Raster(64, 48, RGBA32)
    made = list(model(shot(2, channels=4), Raster(40, 24, RGBA32), target, options()))
    assert {f.planes[0].shape for f in made} == {(48, 64, 4)}
    assert np.ptp(pixels(made)[..., 3]) > 50


def test_no_strength_leaves_alpha_as_it_is_resized(model: SeedVR2) -> None:
    source, target = Raster(40, 24, RGBA32), Raster(64, 48, RGBA32)
    frames = shot(1, channels=4)
    plain = resize(to_rgb(frames, source, torch.device("cpu"), torch.float32), 48, 64).clamp(0, 1)
    made = torch.from_numpy(pixels(list(model(frames, source, target, options(strength=0.0))))).permute(0, 3, 1, 2)
    assert (made / 255 - plain).abs().max() <= 1 / 255


def test_noise_on_the_source_or_its_latent_changes_the_result(model: SeedVR2) -> None:
    frames = shot(1)
    plain = pixels(run(model, frames))
    assert not np.array_equal(plain, pixels(run(model, frames, input_noise_scale=0.5)))
    assert not np.array_equal(plain, pixels(run(model, frames, latent_noise_scale=0.5)))


def starving(nets: Networks, enough: Callable[[int], bool]) -> type[Networks]:
    """Networks that decode no more frames than memory is there for."""

    class Starving(Networks):
        def decode(self, latent: Tensor, *rest: object) -> Tensor:
            if not enough(latent.shape[1]):
                raise torch.OutOfMemoryError("no memory")
            return super().decode(latent, *rest)  # type: ignore[arg-type]

    return Starving


def test_when_memory_runs_out_the_work_goes_on_in_smaller_batches(nets: Networks) -> None:
    hungry = starving(nets, lambda latents: latents <= 2)(nets.dit, nets.vae, nets.device, nets.dtype)
    model = SeedVR2(hungry, "tiny")
    frames = shot(14)
    made = run(model, frames, batch_size=13, temporal_overlap=3)
    assert [f.time for f in made] == [f.time for f in frames]
    assert model.plan.plan.batch == 5
    assert model.plan.attempts > 1
    assert [note.code for note in model.notes] == ["REDUCED_PLAN", "BATCH_CAPPED", "OVERLAP_REDUCED"]


def test_in_the_middle_of_a_stream_nothing_done_is_lost(nets: Networks) -> None:
    calls: list[int] = []

    def enough(latents: int) -> bool:
        calls.append(latents)
        return len(calls) < 2 or latents <= 2

    model = SeedVR2(starving(nets, enough)(nets.dit, nets.vae, nets.device, nets.dtype), "tiny")
    frames = shot(20)
    wanted = {"batch_size": 9, "temporal_overlap": 3, "color_correction": "none"}
    made = run(model, frames, **wanted)
    assert [f.time for f in made] == [f.time for f in frames]
    assert np.array_equal(pixels(made[:6]), pixels(run(SeedVR2(nets, "tiny"), frames, **wanted)[:6]))


def test_when_nothing_fits_the_error_says_what_was_tried(nets: Networks) -> None:
    model = SeedVR2(starving(nets, lambda latents: False)(nets.dit, nets.vae, nets.device, nets.dtype), "tiny")
    with pytest.raises(OutOfMemory, match=r"even batch 1, .* did not fit"):
        run(model, shot(6))


def test_values_that_are_no_numbers_are_an_error_not_a_black_video(nets: Networks) -> None:
    class Broken(Networks):
        def decode(self, *given: object) -> Tensor:
            return super().decode(*given) * torch.nan  # type: ignore[arg-type]

    with pytest.raises(Internal, match="no numbers"):
        run(SeedVR2(Broken(nets.dit, nets.vae, nets.device, nets.dtype), "tiny"), shot(1))


class Stops:
    """A watch that raises at its n-th check, and remembers the phases."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.phases: list[tuple[str, float]] = []

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def phase(self, name: str, done: float) -> None:
        self.phases.append((name, done))


@pytest.mark.parametrize("after", [0, 3, 40, 90])
def test_work_stops_within_a_batch_and_leaves_nothing_behind(model: SeedVR2, after: int) -> None:
    frames = shot(5)
    wanted = pixels(run(model, frames))
    with pytest.raises(KeyboardInterrupt):
        run(model, frames, Stops(after))
    assert model._noise is None
    assert np.array_equal(pixels(run(model, frames)), wanted)


def test_phases_are_told_in_order(model: SeedVR2) -> None:
    watch = Stops(10**9)
    run(model, shot(8), watch)
    names = [name for name, _ in watch.phases]
    assert names[:3] == ["encode", "dit", "decode"]
    assert names.count("color") == names.count("encode") == 2
    assert set(model.seconds) == {"encode", "dit", "decode", "color"}
    assert min(model.seconds.values()) > 0
    done = [done for name, done in watch.phases if name != "color"]
    assert done == sorted(done)


def test_what_is_put_in_front_counts_for_nothing_in_the_progress(model: SeedVR2) -> None:
    watch = Stops(10**9)
    run(model, shot(4), watch, prepend_frames=20)
    assert watch.phases[0][1] == 0
    assert max(done for _, done in watch.phases) <= 4


def test_memory_does_not_grow_with_the_stream(model: SeedVR2) -> None:
    alive: list[int] = []

    def stream() -> Iterator[Frame]:
        for frame in shot(40):
            alive.append(len(alive))
            yield frame

    read_when_out = [len(alive) for _ in model(stream(), SOURCE, TARGET, options())]
    ahead = [read - out - 1 for out, read in enumerate(read_when_out)]
    assert max(ahead) <= 5 + 1 + 3
