"""The Real-ESRGAN pipeline: frames in, enlarged frames out, whatever the batch, the tile and the memory."""

import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import OutOfMemory
from engine.frames import RGB24, RGBA32, YUV420P, YUV420P10, Colour, Frame, PixelFormat, Raster
from engine.models.esrgan.names import build
from engine.models.esrgan.rrdb import RRDBConfig, RRDBNet
from engine.models.esrgan.srvgg import SRVGG, SRVGGConfig
from engine.pipelines.devices import fastest_dtype
from engine.pipelines.esrgan import Esrgan, EsrganOptions, load_esrgan
from engine.pipelines.frames import from_rgb, resize, to_rgb
from engine.pipelines.protocol import Unwatched
from engine.pipelines.tiling import enlarge_by_tiles
from engine.weights.load import CheckpointMismatch
from tests.parity.esrgan import ANIMEVIDEO_V3, weights_by_rule

CPU = torch.device("cpu")
COMPACT = SRVGGConfig(feat=8, convs=4, scale=2)
DENSE = RRDBConfig(blocks=1, feat=8, grow=4, unshuffle=2)
ROOMY = EsrganOptions(free_bytes=2**40)


def network(config: SRVGGConfig | RRDBConfig) -> SRVGG | RRDBNet:
    net = build(config)
    net.load_state_dict(weights_by_rule(net))
    return net


def pipeline(config: SRVGGConfig | RRDBConfig = COMPACT, dtype: torch.dtype = torch.float32) -> Esrgan:
    return Esrgan(network(config), scale=config.scale, name="net", device=CPU, dtype=dtype)


def stream(raster: Raster, count: int) -> Iterator[Frame]:
    rng = np.random.default_rng(7)
    for i in range(count):
        shapes = raster.pixel.plane_shapes(raster.width, raster.height)
        planes = [rng.integers(0, 2**raster.pixel.bits, shape).astype(raster.pixel.dtype) for shape in shapes]
        yield Frame(tuple(planes), Fraction(i, 24), Fraction(1, 24))


def enlarged(raster: Raster, scale: int, pixel: PixelFormat | None = None) -> Raster:
    return replace(raster, width=raster.width * scale, height=raster.height * scale, pixel=pixel or raster.pixel)


def same(a: list[Frame], b: list[Frame], tolerance: int = 0) -> bool:
    return len(a) == len(b) and all(
        np.abs(p.astype(int) - q).max() <= tolerance
        for f, g in zip(a, b, strict=True)
        for p, q in zip(f.planes, g.planes, strict=True)
    )


def test_every_frame_comes_out_enlarged_in_order_and_on_time() -> None:
    source = Raster(20, 12, YUV420P, Colour(matrix=6))
    target = enlarged(source, 2, YUV420P10)
    out = list(pipeline()(stream(source, 5), source, target, replace(ROOMY, batch_size=2)))
    assert [frame.time for frame in out] == [Fraction(i, 24) for i in range(5)]
    assert [plane.shape for plane in out[4].planes] == target.pixel.plane_shapes(40, 24)
    assert out[4].planes[0].dtype == np.uint16


def test_the_result_is_the_networks_own() -> None:
    source = Raster(20, 12, RGB24)
    (frame,) = stream(source, 1)
    (out,) = pipeline()([frame], source, enlarged(source, 2, PixelFormat("rgb", 16)), ROOMY)
    with torch.inference_mode():
        x = torch.from_numpy(frame.planes[0]).permute(2, 0, 1)[None] / 255
        wanted = network(COMPACT)(x).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 65535
    assert np.abs(out.planes[0] - wanted).max() < 2


@pytest.mark.parametrize("config", [COMPACT, DENSE])
def test_batches_change_nothing(config: SRVGGConfig | RRDBConfig) -> None:
    source = Raster(18, 10, RGB24)
    target = enlarged(source, 2)
    one_by_one = list(pipeline(config)(stream(source, 5), source, target, replace(ROOMY, batch_size=1)))
    by_three = pipeline(config)
    assert same(one_by_one, list(by_three(stream(source, 5), source, target, replace(ROOMY, batch_size=3))), 1)
    assert by_three.plan.as_reply()["batch_size"] == 3


def test_frames_are_taken_only_as_they_are_needed() -> None:
    source = Raster(8, 8, RGB24)
    taken = []

    def counted() -> Iterator[Frame]:
        for frame in stream(source, 100):
            taken.append(frame)
            yield frame

    out = pipeline()(counted(), source, enlarged(source, 2), replace(ROOMY, batch_size=4))
    next(out)
    assert len(taken) == 4


@pytest.mark.parametrize("size", [(50, 70), (64, 33), (16, 90)])
@pytest.mark.parametrize("tile", [16, 24, 40])
def test_tiles_that_see_the_receptive_field_leave_no_trace(size: tuple[int, int], tile: int) -> None:
    net = network(COMPACT).eval()
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tiled = enlarge_by_tiles(net, x, scale=2, tile=tile, pad=COMPACT.radius)
        torch.testing.assert_close(tiled, net(x), rtol=0, atol=1e-5)


def test_tiles_that_see_less_differ_only_near_their_seams() -> None:
    net = network(COMPACT).eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (enlarge_by_tiles(net, x, scale=2, tile=32, pad=2) - net(x)).abs()
    reach = 2 * (COMPACT.radius - 2)
    assert difference.max() > 1e-4
    assert difference[..., : 64 - reach, : 64 - reach].max() < 1e-5


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 4), (33, 17)])
@pytest.mark.parametrize("tile", [0, 16])
def test_odd_sizes_are_mirrored_for_networks_that_unshuffle(size: tuple[int, int], tile: int) -> None:
    net = network(DENSE).eval()
    height, width = size
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        got = enlarge_by_tiles(net, x, scale=2, tile=tile, pad=40, multiple=2)
        padded = np.pad(x.numpy(), [(0, 0), (0, 0), (0, height % 2), (0, width % 2)], "reflect")
        wanted = net(torch.from_numpy(padded))[..., : 2 * height, : 2 * width]
    assert got.shape == (1, 3, 2 * height, 2 * width)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_alpha_that_the_target_cannot_hold_is_laid_on_black() -> None:
    pixels = np.full((16, 16, 4), 200, np.uint8)
    pixels[..., 3] = np.where(np.arange(16) < 8, 255, 0)
    source = Raster(16, 16, RGBA32)
    plain = replace(ROOMY, strength=0.0)
    (out,) = pipeline()([Frame((pixels,), Fraction(0))], source, Raster(32, 32, RGB24), plain)
    assert out.planes[0][:, :12].min() >= 195
    assert out.planes[0][:, 20:].max() <= 5


def test_alpha_goes_through_the_network_as_a_grey_picture() -> None:
    source = Raster(16, 12, RGBA32)
    (frame,) = stream(source, 1)
    (out,) = pipeline()([frame], source, enlarged(source, 2), ROOMY)
    grey = frame.planes[0][..., 3:].repeat(3, axis=-1)
    (alone,) = pipeline()([Frame((grey,), Fraction(0))], Raster(16, 12, RGB24), Raster(32, 24, RGB24), ROOMY)
    wanted = alone.planes[0] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(out.planes[0][..., 3] - wanted).max() <= 1.5


def test_an_opaque_picture_stays_opaque() -> None:
    source = Raster(16, 12, RGBA32)
    (frame,) = stream(source, 1)
    frame.planes[0][..., 3] = 255
    (out,) = pipeline()([frame], source, enlarged(source, 2), ROOMY)
    assert (out.planes[0][..., 3] == 255).all()


def test_another_size_than_the_networks_is_reached_by_resizing() -> None:
    source = Raster(32, 24, RGB24)
    target = Raster(50, 30, RGB24)
    own = list(pipeline()(stream(source, 1), source, enlarged(source, 2, PixelFormat("rgb", 16)), ROOMY))
    x = to_rgb(own, enlarged(source, 2, PixelFormat("rgb", 16)), CPU, torch.float32)
    wanted = from_rgb(resize(x, 30, 50), own, target)
    assert same(list(pipeline()(stream(source, 1), source, target, ROOMY)), wanted, 2)


def test_strength_0_is_a_plain_resize() -> None:
    source = Raster(32, 24, RGB24)
    (frame,) = stream(source, 1)
    out = list(pipeline()([frame], source, enlarged(source, 2), replace(ROOMY, strength=0.0)))
    x = to_rgb([frame], source, CPU, torch.float32)
    assert same(out, from_rgb(resize(x, 48, 64), [frame], enlarged(source, 2)))


def test_a_job_is_stopped_between_batches() -> None:
    class Stopped(Exception):
        pass

    asked = []

    class Impatient(Unwatched):
        def check(self) -> None:
            asked.append(1)
            if len(asked) == 3:
                raise Stopped

    source = Raster(8, 8, RGB24)
    out = pipeline()(stream(source, 10), source, enlarged(source, 2), replace(ROOMY, batch_size=2), Impatient())
    done = []
    with pytest.raises(Stopped):
        done.extend(out)
    assert len(asked) == 3


class Cramped(SRVGG):
    """A device with room for so many pixels in one pass; remembers every pass that it was asked for."""

    def __init__(self, room: int) -> None:
        super().__init__(COMPACT)
        self.load_state_dict(weights_by_rule(self))
        self.room = room
        self.passes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append(tuple(x.shape))
        if x.shape[0] * x.shape[2] * x.shape[3] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


def cramped(room: int) -> Esrgan:
    upscaler = Esrgan(Cramped(room), scale=2, name="net", device=CPU, dtype=torch.float32)
    upscaler.banded = False  # as on a GPU
    return upscaler


def test_out_of_memory_goes_to_fewer_frames_then_to_tiles_and_says_so() -> None:
    source = Raster(200, 150, RGB24)
    options = replace(ROOMY, batch_size=4, tile_pad=COMPACT.radius)
    upscaler = cramped(room=100 * 100)
    out = list(upscaler(stream(source, 6), source, enlarged(source, 2), options))
    assert same(out, list(pipeline()(stream(source, 6), source, enlarged(source, 2), ROOMY)), 1)
    assert upscaler.plan.as_reply() == {
        "batch_size": 1, "temporal_overlap": 0, "tile": 128, "tile_pad": 6, "attempts": 5,
    }  # fmt: skip
    assert [note.code for note in upscaler.notes] == ["REDUCED_PLAN"]
    assert isinstance(upscaler.net, Cramped)
    refused = [shape for shape in upscaler.net.passes if shape[0] * shape[2] * shape[3] > 100 * 100]
    assert len(refused) == len(set(refused)) == 4


def test_when_nothing_fits_the_caller_learns_what_would() -> None:
    source = Raster(200, 150, RGB24)
    upscaler = cramped(room=10)
    with pytest.raises(OutOfMemory, match=r"even batch 1, tiles of 64 pixels, \d+ MiB did not fit .* would fit"):
        list(upscaler(stream(source, 2), source, enlarged(source, 2), ROOMY))


def test_the_next_job_begins_with_a_clean_slate() -> None:
    source = Raster(200, 150, RGB24)
    upscaler = cramped(room=100 * 100)
    list(upscaler(stream(source, 1), source, enlarged(source, 2), ROOMY))
    small = Raster(20, 20, RGB24)
    list(upscaler(stream(small, 1), small, enlarged(small, 2), ROOMY))
    assert (upscaler.notes, upscaler.plan.attempts, upscaler.plan.plan.tile) == ([], 1, 0)


def test_another_error_than_memory_is_not_swallowed() -> None:
    class Broken(Cramped):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("a bug")

    upscaler = Esrgan(Broken(0), scale=2, name="net", device=CPU, dtype=torch.float32)
    upscaler.banded = False
    source = Raster(8, 8, RGB24)
    with pytest.raises(RuntimeError, match="a bug"):
        list(upscaler(stream(source, 1), source, enlarged(source, 2), ROOMY))


def test_little_memory_begins_with_tiles() -> None:
    source = Raster(1920, 1080, RGB24)
    target = enlarged(source, 2)
    dense = pipeline(replace(DENSE, feat=64, grow=32))
    whole = dense.estimate(source, target, ROOMY)
    assert (whole.plan.plan.batch, whole.plan.plan.tile) == (1, 0)
    tight = dense.estimate(source, target, replace(ROOMY, free_bytes=whole.peak_bytes // 2))
    assert tight.plan.plan.tile > 0
    assert tight.peak_bytes <= whole.peak_bytes // 2
    asked = dense.estimate(source, target, replace(ROOMY, free_bytes=1, tile=0))
    assert asked.plan.plan.tile == 0


def test_an_estimate_knows_the_time_of_a_frame() -> None:
    source = Raster(64, 64, RGB24)
    upscaler = pipeline()
    assert upscaler.warm(10**12) > 0
    estimate = upscaler.estimate(source, enlarged(source, 2), ROOMY)
    assert 0 < estimate.seconds_per_frame < 60
    alpha = Raster(64, 64, RGBA32)
    twice = upscaler.estimate(alpha, enlarged(alpha, 2), ROOMY)
    assert twice.seconds_per_frame == pytest.approx(2 * estimate.seconds_per_frame)


@pytest.mark.parametrize("config", [COMPACT, DENSE])
def test_a_checkpoint_becomes_a_pipeline(tmp_path: Path, config: SRVGGConfig | RRDBConfig) -> None:
    path = tmp_path / "community.pth"
    torch.save({"params_ema": weights_by_rule(build(config))}, path)
    upscaler = load_esrgan([path], None, CPU, torch.float32)
    assert (upscaler.name, upscaler.scale, upscaler.net.config) == ("community", 2, config)
    source = Raster(10, 8, RGB24)
    loaded = list(upscaler(stream(source, 1), source, enlarged(source, 2), ROOMY))
    assert same(loaded, list(pipeline(config)(stream(source, 1), source, enlarged(source, 2), ROOMY)))


def test_denoise_strength_mixes_two_checkpoints(tmp_path: Path) -> None:
    general = weights_by_rule(build(COMPACT))
    gentle = {name: tensor + 1 for name, tensor in general.items()}
    paths = [tmp_path / "general.pth", tmp_path / "general-wdn.pth"]
    for path, weights in zip(paths, (general, gentle), strict=True):
        torch.save({"params": weights}, path)
    for strength, share in ((0.0, 1.0), (0.25, 0.75), (None, 0.5), (1.0, 0.0)):
        mixed = load_esrgan(paths, strength, CPU, torch.float32).net.state_dict()
        assert all(torch.allclose(mixed[name], general[name] + share, atol=1e-6) for name in general)


def test_checkpoints_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pth", tmp_path / "b.pth"]
    torch.save(weights_by_rule(build(COMPACT)), paths[0])
    torch.save(weights_by_rule(build(replace(COMPACT, convs=5))), paths[1])
    with pytest.raises(CheckpointMismatch, match="cannot be mixed"):
        load_esrgan(paths, 0.5, CPU, torch.float32)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layers.0.weight": torch.zeros(4, 4)}, path)
    with pytest.raises(CheckpointMismatch, match=r"other\.pth: it is neither"):
        load_esrgan([path], None, CPU, torch.float32)


@pytest.mark.weights
def test_the_published_video_network_keeps_its_quality_in_the_fastest_dtype() -> None:
    if not (path := os.environ.get(ANIMEVIDEO_V3)):
        pytest.skip(f"{ANIMEVIDEO_V3} does not name the published file")
    from skimage import data

    photo = np.ascontiguousarray(data.astronaut()[:160, 140:300])
    source, target = Raster(160, 160, RGB24), Raster(640, 640, PixelFormat("rgb", 16))
    results = []
    for dtype in (torch.float32, fastest_dtype(CPU)):
        upscaler = load_esrgan([Path(path)], None, CPU, dtype)
        (out,) = upscaler([Frame((photo,), Fraction(0))], source, target, ROOMY)
        results.append(out.planes[0] / 65535)
    psnr = -10 * np.log10(max(np.square(results[0] - results[1]).mean(), 1e-12))
    assert psnr > 50
