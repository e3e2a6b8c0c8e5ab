"""Whole Wan2.1 jobs with tiny checkpoints on the CPU: every task and layout, LoRAs, what is kept for the next job."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from builder.tiny.layouts import CATALOG
from builder.tiny.wan_layouts import LAYOUTS
from engine.pipelines.wan.networks import Networks
from tests.media import samples
from tests.worker.inside import Inside, Reply, inside
from tests.worker.test_seedvr2_jobs import pictures, seconds
from tests.worker.tiny import I2V, T2V, codes, generate, offering, wan_loras
from tests.worker.tiny import MODEL as SEEDVR2

Pictures = NDArray[np.float64]

LORA = "tiny-wan-t2v-lora"
LORAS = {
    "fast": "for = ['t2v-1.3b']\nsteps = 3\nguidance = 1.0\nshift = 7.0\nsolver = 'euler'",
    "opposite": "for = ['t2v-1.3b']",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Inside]:
    """A worker that offers every tiny layout, computes in float32, and knows three LoRAs for text to video."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "loras").mkdir()
    trained = load_file(checkpoints / "tiny_wan_t2v_lora.safetensors")
    save_file(trained, folder / "loras" / "fast.safetensors")
    turned = {name: -tensor if ".lora_up." in name or ".diff_b" in name else tensor for name, tensor in trained.items()}
    save_file(turned, folder / "loras" / "opposite.safetensors")
    settings = {
        "catalog": (checkpoints / CATALOG, wan_loras(folder / "loras.toml", LORAS)),
        "models_dir": (folder / "loras", checkpoints),
        "dtype": "fp32",
    }
    with offering(folder, checkpoints, ("bundled", SEEDVR2, *(f"tiny-{name}" for name in LAYOUTS)), **settings) as made:
        yield made


def shown(shop: Inside, **fields: Any) -> Pictures:
    """(F, H, W, 3) of a job, as it left the model."""
    reply = generate(shop, **{"output_format": "png_sequence", **fields})
    return np.stack(pictures(shop, reply)).astype(float)


def apart(a: Pictures, b: Pictures) -> float:
    """Codes between two videos, on the average."""
    return float(np.abs(a - b).mean())


def file_of(shop: Inside, **fields: Any) -> str:
    """What tells one result from another, to the bit."""
    return str(generate(shop, **fields)["output"]["sha256"])


def still(shop: Inside, name: str = "still.png", size: tuple[int, int] = (48, 32)) -> str:
    return shop.offer(samples.still(shop.folder / name, size))


def networks(shop: Inside) -> Networks:
    with shop.worker.desk.generator(shop.worker.desk.any_model(T2V)) as found:
        return found.networks  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Watches a network be asked: the list grows with every time."""

    def count(name: str) -> list[Any]:
        work, calls = getattr(Networks, name), []

        def noting(*arguments: Any) -> Any:
            calls.append(arguments)
            return work(*arguments)

        monkeypatch.setattr(Networks, name, noting)
        return calls

    return count


# ---- Text to video ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "frames"),
    [({"frames": 9}, 9), ({"frames": 64, "steps": 1}, 64), ({"frames": None, "duration": 0.5}, 8), ({"frames": 2}, 2)],
    ids=str,
)
def test_text_becomes_a_video_of_exactly_the_frames_asked_for(shop: Inside, fields: Reply, frames: int) -> None:
    reply = generate(shop, size="48*32", **fields)
    with av.open(str(shop.file(reply))) as file:
        stream = file.streams.video[0]
        pictures = list(file.decode(stream))
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 16)
    assert [picture.pts * picture.time_base for picture in pictures] == [Fraction(i, 16) for i in range(frames)]
    assert {(picture.width, picture.height) for picture in pictures} == {(48, 32)}
    assert (reply["output"]["frames"], codes(reply)) == (frames, [])
    assert list(reply["metrics"]["phases"]) == ["text", "sample", "decode", "io"]


def test_one_frame_is_a_picture(shop: Inside) -> None:
    reply = generate(shop, frames=1, size="48*32")
    with Image.open(shop.file(reply)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (48, 32))
        assert np.asarray(image).std() > 20


def test_a_seed_is_drawn_and_told_and_makes_the_video_again(shop: Inside) -> None:
    first, second = (generate(shop, seed=-1) for _ in range(2))
    assert first["params"]["seed"] != second["params"]["seed"]
    assert file_of(shop, seed=first["params"]["seed"]) == first["output"]["sha256"] != second["output"]["sha256"]


def test_every_solver_takes_its_own_way_and_the_prompt_and_guidance_matter(shop: Inside) -> None:
    ways: list[Reply] = [
        {}, {"solver": "euler"}, {"solver": "dpm++"}, {"shift": 8}, {"guidance": 1}, {"guidance": 9}, {"prompt": "sun"},
    ]  # fmt: skip
    assert len({file_of(shop, steps=4, **way) for way in ways}) == len(ways)


def test_without_guidance_no_negative_prompt_is_read(shop: Inside, counted: Callable[[str], list[Any]]) -> None:
    calls = counted("encode_text")
    reply = generate(shop, guidance=1, prompt="water shines")
    assert len(calls) == 1 and reply["plan"]["guidance_in_one_pass"] is False
    assert file_of(shop, guidance=1, prompt="water shines", negative_prompt="rain") == reply["output"]["sha256"]
    assert len(calls) == 1


@pytest.mark.parametrize(("model", "baked"), [(T2V, "noise and rain"), (I2V, "shaking, noise and rain")])
def test_the_negative_prompt_is_the_model_s_own_unless_one_is_given(shop: Inside, model: str, baked: str) -> None:
    given = {"model": model, "image": still(shop)} if model == I2V else {"model": model}
    reply = generate(shop, **given)
    assert reply["params"]["negative_prompt"] == baked
    assert file_of(shop, negative_prompt=baked, **given) == reply["output"]["sha256"]
    others = {file_of(shop, negative_prompt=text, **given) for text in ("", "birds")}
    assert len(others | {reply["output"]["sha256"]}) == 3


def test_progress_tells_every_step_with_the_time_left_and_never_goes_back(shop: Inside) -> None:
    generate(shop, steps=6)
    reports = shop.worker.reports
    percents = [report["progress"] for report in reports]
    assert percents == sorted(percents) and percents[-1] == 100
    steps = [report for report in reports if report.get("phase") == "sample" and "step" in report["message"]]
    assert [report["message"] for report in steps] == [f"step {done} of 6" for done in range(7)]
    assert all(report["eta_s"] >= 0 for report in steps[1:])
    assert [report["message"] for report in reports if "frame" in report["message"]][-1] == "frame 5 of 5"


# ---- Image to video ---------------------------------------------------------------------------------------------


def test_what_is_see_through_lies_on_black(shop: Inside) -> None:
    rgb = samples.picture(3, 48, 32)
    seen = np.arange(48) >= 20
    alpha = np.broadcast_to(np.where(seen, 255, 0).astype(np.uint8)[:, None], (32, 48, 1))
    images = {"clear": np.dstack([rgb, alpha]), "black": rgb * seen[:, None].astype(np.uint8), "opaque": rgb}
    for name, image in images.items():
        Image.fromarray(image).save(shop.folder / f"{name}.png")
    clear, black, opaque = (shown(shop, image=shop.offer(shop.folder / f"{name}.png")) for name in images)
    assert clear.shape == (5, 16, 32, 3)
    assert np.array_equal(clear, black) and apart(clear, opaque) > 1


def test_a_photograph_is_upright_and_gives_its_aspect(shop: Inside) -> None:
    lying, upright = shop.folder / "lying.jpg", shop.folder / "upright.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(samples.picture(1, 96, 48)).save(lying, exif=exif)
    with Image.open(lying) as image:
        ImageOps.exif_transpose(image).save(upright)
    reply = generate(shop, image=shop.offer(lying))
    assert (reply["source"]["width"], reply["source"]["height"]) == (48, 96)
    assert (reply["output"]["width"], reply["output"]["height"], reply["output"]["frames"]) == (16, 32, 5)
    assert list(reply["metrics"]["phases"]) == ["text", "image", "encode", "sample", "decode", "io"]
    assert file_of(shop, image=shop.offer(upright)) == reply["output"]["sha256"]


@pytest.mark.parametrize("network", ["encode_image", "encode_still"])
def test_an_image_is_seen_as_a_whole_and_as_the_first_frame(
    shop: Inside, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    given = {"image": still(shop), "size": "48*32"}
    made, seen = shown(shop, **given), getattr(Networks, network)
    monkeypatch.setattr(Networks, network, lambda *arguments: seen(*arguments) * 0)
    shop.ask(action="offload")  # and with it what is remembered of the image
    assert apart(shown(shop, **given), made) > 0.5
    shop.ask(action="offload")


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_an_image_is_fitted_to_exactly_the_size(shop: Inside, fit: str) -> None:
    made = shown(shop, image=still(shop), fit=fit)
    assert made.shape == (5, 32, 32, 3)
    assert apart(made, shown(shop, image=still(shop, "square.png", (32, 32)))) > 1


# ---- Video to video ---------------------------------------------------------------------------------------------


def test_a_video_is_taken_at_the_model_s_rate_and_keeps_its_sound(shop: Inside) -> None:
    options = {"size": (32, 32), "options": samples.LOSSLESS, "languages": ("eng",)}
    fast = samples.video(shop.folder / "fast.mp4", frames=18, fps=30, **options)
    taken = [0, 1, 3, 5, 7, 9, 11, 13, 15, 16]  # the last to have begun at each sixteenth of a second
    images = (samples.picture(index, 32, 32) for index in taken)
    same = samples.video(shop.folder / "same.mp4", frames=10, fps=16, pictures=images, **options)
    given = {"frames": None, "strength": 0.5, "steps": 4}
    reply = generate(shop, video=shop.offer(fast), **given)
    assert (reply["params"]["task"], reply["output"]["frames"], reply["output"]["audio_tracks"]) == ("v2v", 10, 1)
    made = shop.file(reply)
    assert seconds(made, "video") == Fraction(10, 16)
    assert abs(seconds(made, "audio") - Fraction(18, 30)) < Fraction(1, 20)
    assert [report["message"] for report in shop.worker.reports if "step" in report["message"]][-1] == "step 2 of 2"
    one, other = (shown(shop, video=shop.offer(path), audio="drop", **given) for path in (fast, same))
    assert np.array_equal(one, other)


def test_strength_decides_how_much_is_left_of_the_source(shop: Inside) -> None:
    source = shop.offer(samples.video(shop.folder / "kept.mp4", frames=5, fps=16, size=(32, 32)))
    given = {"video": source, "frames": None, "steps": 4}
    none, half, whole = (shown(shop, **given, strength=strength) for strength in (0, 0.5, 1))
    assert np.array_equal(none, shown(shop, **given, strength=0, seed=8, prompt="another"))
    assert apart(none, half) > 5
    assert apart(whole, shown(shop, steps=4)) < 2  # all but nothing is left of it at the highest level


# ---- Enlarged in the same job -----------------------------------------------------------------------------------


def test_a_video_is_enlarged_by_another_model_in_the_same_job(shop: Inside) -> None:
    small, large = (shown(shop, **fields) for fields in ({}, {"upscale": {"model": "bundled"}}))
    assert large.shape == (5, 64, 64, 3)
    assert apart(large.reshape(5, 32, 2, 32, 2, 3).mean((2, 4)), small) < 8
    reply = generate(shop, upscale={"model": "bundled"})
    assert (reply["output"]["width"], reply["output"]["height"], reply["output"]["frames"]) == (64, 64, 5)
    assert (reply["upscale"]["model"], reply["upscale"]["plan"]["attempts"]) == ("bundled", 1)
    assert {"bundled", T2V} <= set(shop.ask(action="info")["loaded"])


def test_a_video_is_restored_by_seedvr2_in_the_same_job(shop: Inside) -> None:
    reply = generate(shop, upscale={"model": SEEDVR2, "resolution": 48, "batch_size": 5})
    assert reply.get("status") == "completed", reply
    assert (reply["output"]["width"], reply["output"]["height"], reply["output"]["frames"]) == (48, 48, 5)
    assert (reply["upscale"]["model"], reply["upscale"]["plan"]["batch_size"], codes(reply)) == (SEEDVR2, 5, [])
    assert list(reply["upscale"]["phases"]) == ["encode", "dit", "decode", "color"]


# ---- Layouts ----------------------------------------------------------------------------------------------------

# The step between neighbouring numbers, relative to the larger ones, of what most of a layout's weights are kept in.
STEPS = {
    "comfy-fp16": 2**-11,
    "comfy-bf16": 2**-8,
    "comfy-fp8_e4m3fn": 2**-4,
    "comfy-fp8_scaled": 2**-4,
    "gguf-q4_k_m": 1 / 15,
    "gguf-q5_k_m": 1 / 31,
    "gguf-q6_k": 1 / 63,
    "gguf-q8_0": 1 / 255,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_makes_the_same_video_as_closely_as_its_numbers_are_kept(shop: Inside, layout: str) -> None:
    task, kind = LAYOUTS[layout]
    given = {"image": still(shop), "size": "48*32"} if task == "i2v" else {"size": "48*32"}
    made = shown(shop, model=f"tiny-{layout}", **given)
    original = shown(shop, model=T2V if task == "t2v" else I2V, **given)
    difference = apart(made, original)
    print(f"{layout}: {difference:.2f} codes")
    if kind in ("original", "diffusers"):
        # The same numbers; where they lie in the file, and so in memory, decides how a product is summed: a pixel in
        # thousands is rounded to the next code.
        assert difference < 1e-3
    else:  # a code for the autoencoder's bfloat16, and half the range of codes by the step
        assert 0 < difference < 1 + 128 * STEPS[kind]


# ---- LoRAs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [T2V, "tiny-wan-t2v-gguf-q8_0", "tiny-wan-t2v-comfy-fp8_scaled"])
def test_a_lora_changes_the_video_as_much_as_its_strength_says(shop: Inside, model: str) -> None:
    plain = shown(shop, model=model)
    made = {
        strength: shown(shop, model=model, loras=[{"name": LORA, "strength": strength}]) for strength in (0, 0.25, 1)
    }
    assert apart(made[0], plain) < 0.01  # for a packed layer is not computed in one piece
    assert 0.5 < apart(made[0.25], plain) < apart(made[1], plain)
    assert np.array_equal(shown(shop, model=model), plain)


def test_loras_add_up(shop: Inside) -> None:
    plain = shown(shop)
    one, other = (shown(shop, loras=[{"name": name}]) for name in (LORA, "opposite"))
    assert min(apart(one, plain), apart(other, plain), apart(one, other)) > 1
    assert apart(shown(shop, loras=[{"name": LORA}, {"name": "opposite"}]), plain) < 0.1
    half = [{"name": LORA}, {"name": "opposite", "strength": 0.5}]
    assert apart(shown(shop, loras=half), shown(shop, loras=[{"name": LORA, "strength": 0.5}])) < 0.1


def test_a_lora_changes_the_transformer_alone(shop: Inside, counted: Callable[[str], list[Any]]) -> None:
    generate(shop)
    before, calls = networks(shop), counted("encode_text")
    kept = before.text, before.vae, before.dit
    generate(shop, loras=[{"name": LORA}])
    after = networks(shop)
    assert after is before and (after.text, after.vae) == kept[:2] and after.dit is not kept[2]
    merged = after.dit
    generate(shop, loras=[{"name": LORA}], seed=8)
    assert networks(shop).dit is merged and calls == []


def test_a_lora_says_what_it_was_made_for(shop: Inside) -> None:
    reply = generate(shop, loras=[{"name": "fast.safetensors", "strength": 0.5}], steps=None)
    params = reply["params"]
    assert (params["steps"], params["guidance"], params["shift"], params["solver"]) == (3, 1, 7, "euler")
    assert params["loras"] == [{"name": "fast.safetensors", "strength": 0.5}]
    assert "step 3 of 3" in [report["message"] for report in shop.worker.reports]
    plain = [{"name": LORA, "strength": 0.5}]  # the same file by another name
    same = file_of(shop, loras=plain, steps=3, guidance=1, shift=7, solver="euler")
    assert same == reply["output"]["sha256"]


# ---- What is kept for the next job ------------------------------------------------------------------------------


def test_a_prompt_and_an_image_are_encoded_once_however_often_they_come(
    shop: Inside, counted: Callable[[str], list[Any]]
) -> None:
    texts, images, stills = (counted(name) for name in ("encode_text", "encode_image", "encode_still"))
    given = {"prompt": "birds fly home", "negative_prompt": "fog", "image": still(shop, "kept.png", (40, 40))}
    for fields, times in (
        ({}, (2, 1, 1)),
        ({"seed": 8}, (2, 1, 1)),
        ({"prompt": "the sea at night"}, (3, 1, 1)),
        ({"size": "48*48"}, (3, 1, 2)),
    ):
        generate(shop, **given | fields)
        assert (len(texts), len(images), len(stills)) == times


# ---- Estimates and services -------------------------------------------------------------------------------------


def test_an_estimate_reads_no_weights_and_needs_none(tmp_path: Path, shop: Inside, checkpoints: Path) -> None:
    shop.ask(action="offload")
    here = generate(shop, dry_run=True, loras=[{"name": LORA}], upscale={"model": "bundled"})
    assert T2V not in shop.ask(action="info")["loaded"]
    (tmp_path / "empty").mkdir()
    with offering(tmp_path / "empty", checkpoints, (T2V, I2V, "bundled"), models_dir=()) as bare:
        away = generate(bare, dry_run=True, upscale={"model": "bundled"})
        moving = generate(bare, dry_run=True, image=still(bare), size="48*32")
        refused = generate(bare)
    for reply in (here, away):
        assert (reply["status"], reply["action"], reply["plan"]["attempts"]) == ("completed", "estimate", 0)
        assert (reply["estimate"]["frames_out"], reply["estimate"]["width"]) == (5, 64)
        assert reply["estimate"]["seconds"] > 0
    assert 0 < here["estimate"]["peak_mb"] < away["estimate"]["peak_mb"]  # which is told of the published networks
    assert (moving["estimate"]["frames_in"], moving["estimate"]["frames_out"]) == (1, 5)
    assert (refused["code"], refused["stage"]) == ("MODEL_NOT_BAKED", "load")


def test_a_published_name_is_estimated_at_its_full_size(tmp_path: Path) -> None:
    with inside(tmp_path, models=("wan21-t2v-14b",)) as bare:
        reply = bare.ask(action="estimate", model="Wan2.1-T2V-14B", prompt="a cat")
    estimate = reply["estimate"]
    assert (estimate["frames_out"], estimate["width"], estimate["height"]) == (81, 832, 480)
    assert estimate["peak_mb"] > 28_000 and estimate["seconds"] > 100


def test_info_warm_and_offload_know_the_family(shop: Inside) -> None:
    shop.ask(action="offload")
    facts = shop.ask(action="info")
    model = next(model for model in facts["models"] if model["name"] == I2V)
    assert (model["family"], model["architecture"], model["tasks"]) == ("wan", "i2v-14b-480p", ["i2v"])
    assert (model["missing"], model["loaded"], facts["loaded"]) == ([], False, [])
    assert {"fast", "opposite", LORA, "tiny-wan-i2v-lora"} <= {lora["name"] for lora in facts["loras"]}
    for name in (T2V, I2V):
        warmed = shop.ask(action="warm", model=name)
        assert (warmed["status"], warmed["loaded"][-1]) == ("completed", name) and warmed["seconds"] > 0
    assert shop.ask(action="offload")["offloaded"] == [T2V, I2V]


def test_little_memory_makes_tiles_as_the_estimate_says(tmp_path: Path, checkpoints: Path) -> None:
    with offering(tmp_path, checkpoints, (T2V,), ram_budget_mb=5) as worker:
        given = {"size": "272*16", "frames": 5, "steps": 1}
        expected, reply = generate(worker, **given, dry_run=True), generate(worker, **given)
    assert (reply["output"]["width"], reply["output"]["frames"]) == (272, 5)
    assert (reply["plan"]["tile"], reply["plan"]["guidance_in_one_pass"], reply["plan"]["attempts"]) == (256, False, 1)
    assert {**expected["plan"], "attempts": 1} == reply["plan"]
