"""Whole SeedVR2 jobs with tiny checkpoints on the CPU: every layout, every option, every size, the other actions."""

import json
import logging
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from builder.tiny.layouts import LAYOUTS
from engine.pipelines.frames import resize
from tests.media import samples
from tests.worker.inside import Inside, Reply, inside
from tests.worker.tiny import MODEL, codes, offering, run_handler

OTHER = "tiny-seedvr2-7b-fp16"
PHASES = ["encode", "dit", "decode", "color", "io"]
COLORS = ["lab", "wavelet", "wavelet_adaptive", "hsv", "adain", "none"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Inside]:
    """A worker that offers every tiny layout."""
    models = [f"tiny-seedvr2-{name}" for name in LAYOUTS]
    with offering(tmp_path_factory.mktemp("shop"), checkpoints, (MODEL, *models)) as made:
        yield made


def clip(shop: Inside, name: str = "clip.mp4", frames: int = 7, **options: Any) -> str:
    return shop.offer(samples.video(shop.folder / name, **{"frames": frames, "size": (48, 32), **options}))


def picture(shop: Inside, name: str = "still.png", **options: Any) -> str:
    return shop.offer(samples.still(shop.folder / name, **{"size": (48, 32), **options}))


def pixels(shop: Inside, reply: Reply) -> NDArray[np.uint8]:
    """The picture that a job made, (H, W, C)."""
    with Image.open(shop.file(reply)) as made:
        return np.asarray(made)


def pictures(shop: Inside, reply: Reply) -> list[NDArray[np.uint8]]:
    """Those of a job that made a png_sequence."""
    with zipfile.ZipFile(shop.file(reply)) as archive:
        names = [name for name in sorted(archive.namelist()) if name.endswith(".png")]
        return [np.asarray(Image.open(archive.open(name))) for name in names]


def difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).max())


# ---- The whole road ---------------------------------------------------------------------------------------------


def seconds(path: Path, kind: str) -> Fraction:
    """From the first picture's or sound's begin to the last one's end."""
    with av.open(str(path)) as container:
        frames = list(container.decode(**{kind: 0}))  # type: ignore[arg-type]
    last = frames[-1]
    rate = last.sample_rate if isinstance(last, av.AudioFrame) else 0
    length = Fraction(last.samples, rate) if isinstance(last, av.AudioFrame) else last.duration * last.time_base
    return last.pts * last.time_base + length - frames[0].pts * frames[0].time_base


def test_a_clip_with_sound_comes_back_whole_from_the_command_line(tmp_path: Path, checkpoints: Path) -> None:
    source = samples.video(tmp_path / "clip.mp4", frames=12, size=(64, 48), languages=("eng",))
    results = run_handler(tmp_path, checkpoints, source="clip.mp4", resolution=32, batch_size=5, preset="ultrafast")
    reply = json.loads((results / "result.json").read_text())
    output, made = reply["output"], results / reply["output"]["filename"]
    assert (output["codec"], output["width"], output["height"], output["frames"]) == ("h264", 42, 32, 12)
    assert (output["audio_tracks"], output["bytes"]) == (1, made.stat().st_size)
    assert seconds(made, "video") == seconds(source, "video") == Fraction(12, 25)
    assert abs(seconds(made, "audio") - seconds(source, "audio")) < Fraction(1, 1000)
    assert reply["plan"] == {
        "batch_size": 5,
        "temporal_overlap": 1,
        "tile": None,
        "tile_overlap": None,
        "latents_at_once": None,
        "offload": False,
        "attempts": 1,
    }
    phases = reply["metrics"]["phases"]
    assert list(phases) == PHASES and all(spent > 0 for spent in phases.values())
    assert list((tmp_path / "scratch").iterdir()) == []
    assert {path.name for path in results.iterdir()} == {made.name, "result.json"}


# ---- Models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_restores_a_picture(shop: Inside, layout: str) -> None:
    reply = shop.upscale(source=picture(shop), model=f"tiny-seedvr2-{layout}", resolution=32)
    assert pixels(shop, reply).shape == (32, 48, 3)
    assert reply["model"] == f"tiny-seedvr2-{layout}"
    assert codes(reply) == (["LOW_PRECISION"] if layout == "7b-fp8" else [])


def test_quantized_files_restore_nearly_as_the_one_they_come_from(shop: Inside) -> None:
    def restored(layout: str) -> NDArray[np.uint8]:
        return pixels(shop, shop.upscale(source=picture(shop), model=f"tiny-seedvr2-{layout}", resolution=32))

    whole = restored("3b-pth")
    apart = {name: float(np.abs(restored(name) - whole.astype(float)).mean()) for name in ("3b-fp16", "3b-q8", "3b-q4")}
    assert apart["3b-fp16"] < 4 and apart["3b-q8"] < 4 and apart["3b-q4"] < 16, apart


def test_a_model_is_loaded_once_and_stays_beside_the_next(
    tmp_path: Path, checkpoints: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="engine.residency")
    with offering(tmp_path, checkpoints, (MODEL, OTHER)) as fresh:
        jobs = [fresh.upscale(source=picture(fresh), model=model, resolution=32) for model in (MODEL, MODEL, OTHER)]
        assert [job["metrics"]["cold"] for job in jobs] == [True, False, True]
        assert fresh.ask(action="info")["loaded"] == [MODEL, OTHER]
        again = fresh.upscale(source=picture(fresh), resolution=32)
    assert again["output"]["sha256"] == jobs[0]["output"]["sha256"] != jobs[2]["output"]["sha256"]
    assert len([record for record in caplog.records if "loading" in record.message]) == 2


def test_info_warm_and_offload_know_the_family(shop: Inside) -> None:
    shop.ask(action="offload")
    facts = next(model for model in shop.ask(action="info")["models"] if model["name"] == MODEL)
    assert (facts["family"], facts["architecture"], facts["precision"]) == ("seedvr2", "3b", "F16")
    assert (facts["missing"], facts["loaded"], facts["scale"]) == ([], False, None)
    warm = shop.ask(action="warm", model=MODEL)
    assert warm["loaded"] == [MODEL] and warm["seconds"] > 0
    assert shop.ask(action="offload")["offloaded"] == [MODEL]
    assert shop.ask(action="info")["loaded"] == []


# ---- Pictures ---------------------------------------------------------------------------------------------------


def test_a_picture_keeps_its_alpha_where_the_result_can_hold_it(shop: Inside) -> None:
    Image.fromarray(samples.fading(0, (48, 32))).save(shop.folder / "fading.png")
    source = shop.offer(shop.folder / "fading.png")
    made = pixels(shop, shop.upscale(source=source, resolution=64))
    assert made.shape == (64, 96, 4)
    assert made[:, :40, 3].mean() > 200 and made[:, 56:, 3].mean() < 10
    flat = shop.upscale(source=source, resolution=64, output_format="jpg")
    assert pixels(shop, flat).shape == (64, 96, 3) and codes(flat) == ["ALPHA_FLATTENED"]


def test_a_jpeg_becomes_a_picture_of_one_frame_s_batch(shop: Inside) -> None:
    reply = shop.upscale(source=picture(shop, "still.jpg"), resolution=40, output_format="jpg")
    assert pixels(shop, reply).shape == (40, 60, 3)
    assert (reply["plan"]["batch_size"], reply["plan"]["temporal_overlap"], codes(reply)) == (1, 0, [])


@pytest.mark.parametrize(
    ("size", "fields", "wanted"),
    [
        ((48, 32), {"resolution": 40}, (60, 40)),
        ((48, 32), {"short_edge": 33}, (49, 33)),  # half a pixel is rounded down
        ((33, 17), {"resolution": 33}, (64, 33)),
        ((33, 17), {"outscale": 1}, (33, 17)),
        ((33, 17), {"outscale": 1.5}, (49, 25)),
        ((33, 17), {"outscale": 2, "output_magnification": 3}, (99, 51)),
        ((33, 17), {"output_dims": [51, 35]}, (51, 35)),
        ((33, 17), {"output_dims": [1, 1]}, (1, 1)),
        ((48, 32), {"height": 40, "width": 45}, (45, 30)),
        ((48, 32), {"height": 40}, (60, 40)),
        ((48, 32), {"width": 40}, (40, 27)),
        ((48, 32), {"resolution": 64, "max_edge": 45}, (45, 30)),
        ((1, 1), {"outscale": 3}, (3, 3)),
    ],
    ids=str,
)
def test_a_picture_is_of_exactly_the_size_asked_for(
    shop: Inside, size: tuple[int, int], fields: dict[str, Any], wanted: tuple[int, int]
) -> None:
    reply = shop.upscale(source=picture(shop, "sized.png", size=size), **fields)
    assert (reply["output"]["width"], reply["output"]["height"]) == wanted, reply
    assert pixels(shop, reply).shape == (wanted[1], wanted[0], 3)


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_strength_mixes_the_result_with_the_plain_resize(shop: Inside, strength: float) -> None:
    source = samples.still(shop.folder / "mixed.png", (48, 32))
    rgb = torch.from_numpy(np.array(Image.open(source))).permute(2, 0, 1)[None] / 255
    plain = (resize(rgb, 40, 60)[0].clamp(0, 1) * 255).permute(1, 2, 0).numpy()
    whole = pixels(shop, shop.upscale(source=shop.offer(source), resolution=40)).astype(float)
    assert difference(whole, plain) > 20
    made = pixels(shop, shop.upscale(source=shop.offer(source), resolution=40, strength=strength))
    assert difference(made, strength * whole + (1 - strength) * plain) <= 1


def test_every_colour_correction_makes_its_own_picture(shop: Inside) -> None:
    made = {
        method: pixels(shop, shop.upscale(source=picture(shop), resolution=32, color_correction=method))
        for method in COLORS
    }
    assert len({picture.tobytes() for picture in made.values()}) == len(COLORS)
    with Image.open(shop.folder / "still.png") as image:
        source = np.asarray(image).astype(float).mean((0, 1))
    apart = {method: np.abs(picture.astype(float).mean((0, 1)) - source).max() for method, picture in made.items()}
    assert max(apart["lab"], apart["wavelet"], apart["adain"]) < 16 < apart["none"], apart


def test_a_seed_is_told_and_makes_the_picture(shop: Inside) -> None:
    source = picture(shop)
    replies = [shop.upscale(source=source, resolution=32, seed=seed) for seed in (7, 7, 8)]
    hashes = [reply["output"]["sha256"] for reply in replies]
    assert hashes[0] == hashes[1] != hashes[2]
    assert [reply["params"]["seed"] for reply in replies] == [7, 7, 8]
    assert "_s7_" in replies[0]["output"]["filename"]


@pytest.mark.parametrize("field", ["input_noise_scale", "latent_noise_scale"])
def test_noise_leaves_the_network_more_to_invent(shop: Inside, field: str) -> None:
    source = picture(shop)
    made = [pixels(shop, shop.upscale(source=source, resolution=32, **{field: scale})) for scale in (0, 0.1, 1)]
    assert 0 < np.abs(made[1] - made[0].astype(float)).mean() < np.abs(made[2] - made[0].astype(float)).mean()


def test_tiles_change_a_picture_less_than_another_seed_does(shop: Inside) -> None:
    source = picture(shop)
    whole = pixels(shop, shop.upscale(source=source, resolution=128, vae_tiling="off")).astype(float)
    other = pixels(shop, shop.upscale(source=source, resolution=128, vae_tiling="off", seed=1))
    tiled = shop.upscale(source=source, resolution=128, vae_tiling="on", vae_tile_size=128, vae_tile_overlap=32)
    assert (tiled["plan"]["tile"], tiled["plan"]["tile_overlap"]) == (128, 32)
    assert (tiled["params"]["vae_tile_size"], tiled["params"]["vae_tile_overlap"]) == (128, 32)
    assert 0 < np.abs(pixels(shop, tiled) - whole).mean() < np.abs(other - whole).mean() / 2


# ---- Videos -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "batch", "overlap"),
    [
        ({}, 9, 1),
        ({"batch_size": 5}, 5, 1),
        ({"batch_size": 5, "temporal_overlap": 2}, 5, 2),
        ({"batch_size": 1}, 1, 0),
        ({"batch_size": 5, "temporal_overlap": 0}, 5, 0),
        ({"batch_size": 5, "uniform_batch_size": True}, 5, 1),
        ({"batch_size": 13, "uniform_batch_size": True}, 13, 3),
        ({"prepend_frames": 2}, 9, 1),
        ({"prepend_frames": 20, "batch_size": 9}, 9, 1),
        ({"temporal": False}, 1, 0),
        ({"temporal": False, "batch_size": 5}, 5, 0),
        ({"vae_tiling": "on", "vae_tile_size": 64, "resolution": 48, "batch_size": 5}, 5, 1),
    ],
    ids=str,
)
def test_every_way_of_cutting_gives_a_frame_for_each_frame(
    shop: Inside, fields: dict[str, Any], batch: int, overlap: int
) -> None:
    reply = shop.upscale(source=clip(shop), **{"resolution": 32, **fields})
    assert (reply["output"]["frames"], reply["output"]["duration"]) == (7, 0.28)
    assert (reply["plan"]["batch_size"], reply["plan"]["temporal_overlap"]) == (batch, overlap)
    assert (reply["plan"]["attempts"], codes(reply)) == (1, [])


def test_without_time_a_frame_is_what_it_is_alone(shop: Inside) -> None:
    source = clip(shop, "three.mkv", frames=3, codec="ffv1", pixel="bgr0")
    given = {"source": source, "resolution": 32, "output_format": "png_sequence"}
    together = pictures(shop, shop.upscale(**given, temporal=False, batch_size=5))
    alone = [pictures(shop, shop.upscale(**given, skip_frames=n, max_frames=1))[0] for n in range(3)]
    assert [difference(a, b) <= 1 for a, b in zip(together, alone, strict=True)] == [True] * 3
    video = pictures(shop, shop.upscale(**given))
    assert difference(video[1], alone[1]) > 5


def test_ten_bits_stay_ten_bits(shop: Inside) -> None:
    source = clip(shop, "deep.mkv", pixel="yuv420p10le", frames=3)
    reply = shop.upscale(source=source, resolution=32, bit_depth=10)
    assert (reply["source"]["bit_depth"], reply["output"]["pixel_format"]) == (10, "yuv420p10le")


def test_a_webm_keeps_its_alpha(shop: Inside) -> None:
    source = shop.offer(samples.vp9_alpha(shop.folder / "clear.webm", frames=3))
    reply = shop.upscale(source=source, output_dims=[64, 48], output_format="webm")
    assert (reply["output"]["pixel_format"], reply["output"]["frames"], codes(reply)) == ("yuva420p", 3, [])
    made = pictures(shop, shop.upscale(source=source, output_dims=[64, 48], output_format="png_sequence"))
    assert [image.shape for image in made] == [(48, 64, 4)] * 3
    assert made[0][:, :24, 3].mean() > 200 and made[0][:, 40:, 3].mean() < 10


# ---- Estimates --------------------------------------------------------------------------------------------------


def test_an_estimate_reads_no_weights_and_needs_none(tmp_path: Path, shop: Inside, checkpoints: Path) -> None:
    shop.ask(action="offload")
    here = shop.upscale(source=clip(shop), resolution=32, batch_size=5, dry_run=True)
    poor = shop.upscale(source=clip(shop), resolution=32, model="tiny-seedvr2-7b-fp8", dry_run=True)
    assert codes(poor) == ["LOW_PRECISION"]
    assert shop.ask(action="info")["loaded"] == []
    (tmp_path / "empty").mkdir()
    with offering(tmp_path / "empty", checkpoints, models_dir=()) as bare:
        away = bare.upscale(source=clip(bare), resolution=32, batch_size=5, dry_run=True)
        refused = bare.upscale(source=clip(bare), resolution=32)
    for reply in (here, away):
        assert (reply["status"], reply["plan"]["batch_size"], reply["plan"]["attempts"]) == ("completed", 5, 0)
        assert (reply["estimate"]["frames_out"], reply["estimate"]["width"]) == (7, 48)
        assert reply["estimate"]["seconds"] > 0
    assert 0 < here["estimate"]["peak_mb"] < away["estimate"]["peak_mb"]  # which is told of the published network
    assert (refused["code"], refused["stage"]) == ("MODEL_NOT_BAKED", "load")


def test_a_published_name_is_estimated_at_its_full_size(tmp_path: Path) -> None:
    with inside(tmp_path, models=("seedvr2_ema_7b_fp16",)) as bare:
        reply = bare.upscale(source=clip(bare, frames=24), dry_run=True)
    assert (reply["estimate"]["width"], reply["estimate"]["height"]) == (1620, 1080)
    assert reply["estimate"]["peak_mb"] > 100 and reply["estimate"]["seconds"] > 10
