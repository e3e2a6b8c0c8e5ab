"""Odd requests, sources and prompts, damaged and foreign checkpoints: what Wan2.1 jobs refuse, and what they serve.

Every damaged file is a real one, made of a tiny checkpoint.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from builder.tiny.layouts import CATALOG, LAYOUTS
from tests.media import samples
from tests.worker.inside import Inside, Reply
from tests.worker.test_bad_input import assert_refused
from tests.worker.test_seedvr2_bad_input import cut, half_written, narrowed, renamed, spoilt, whole
from tests.worker.tiny import I2V, T2V, codes, generate, offering, wan_catalog_of, wan_loras

Fields = dict[str, Any]
Tensors = dict[str, Tensor]

LORAS = {"mistaken": "for = ['t2v-1.3b']", "torn": "for = ['t2v-1.3b']", "gone": "for = ['t2v-1.3b']"}
TUNED = "blocks.0.self_attn.q"


def picture(shop: Inside, name: str = "still.png", size: tuple[int, int] = (48, 32)) -> str:
    return shop.offer(samples.still(shop.folder / name, size))


def clip(shop: Inside, name: str = "clip.mp4", **options: Any) -> str:
    return shop.offer(samples.video(shop.folder / name, **{"frames": 9, "size": (32, 32), "fps": 16, **options}))


# ---- Requests that are refused ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Inside]:
    """A worker that never gets as far as to load a model."""
    folder = tmp_path_factory.mktemp("door")
    catalog = (checkpoints / CATALOG, wan_loras(folder / "loras.toml", LORAS))
    with offering(folder, checkpoints, (T2V, I2V, "bundled"), catalog=catalog) as made:
        yield made


def assert_turned_away(door: Inside, reply: Reply, field: str, words: str, code: str = "INVALID_INPUT") -> None:
    assert_refused(door, reply, code, words, retryable=False)
    assert reply["field"] == field
    assert door.ask(action="info")["loaded"] == []


WRONG = [
    ({"prompt": ""}, "prompt", "is required to make a video from text"),
    ({"prompt": " \n"}, "prompt", "is required to make a video from text"),
    ({"prompt": "a \ud83d cat"}, "prompt", "is not valid Unicode"),
    ({"prompt": "generations " * 5000}, "prompt", "a text of at most 50000 characters"),
    ({"frames": 0}, "frames", "a whole number from 1 to 1000, not 0"),
    ({"frames": 100_000}, "frames", "a whole number from 1 to 1000, not 100000"),
    ({"frames": 2.5}, "frames", "a whole number"),
    ({"frames": None, "duration": 0}, "duration", "a number above 0 up to 60"),
    ({"duration": 1}, "duration", "is given besides `frames`: give one of them"),
    ({"size": "500*300"}, "size", "multiples of 16 up to 4096, which 500 is not: 496 and 512 are"),
    ({"size": "0*0"}, "size", 'both multiples of 16 up to 4096, such as "832*480", not `0*0`'),
    ({"size": "7680*4320"}, "size", 'both multiples of 16 up to 4096, such as "832*480", not `7680*4320`'),
    ({"size": None, "width": 40, "height": 32}, "width", "a multiple of 16 up to 4096, not 40: 32 and 48 are"),
    ({"size": None, "width": 7680, "height": 4320}, "width", "a multiple of 16 up to 4096, not 7680"),
    ({"size": None, "width": 32}, "width", "needs `height` beside it"),
    ({"guidance": 0.5}, "guidance", "a number from 1 to 20, not 0.5"),
    ({"guidance": 30}, "guidance", "a number from 1 to 20, not 30"),
    ({"strength": 1.5}, "strength", "a number from 0 to 1, not 1.5"),
    ({"steps": 0}, "steps", "a whole number from 1 to 100, not 0"),
    ({"seed": -2}, "seed", "a whole number from -1 to"),
    ({"shift": 0}, "shift", "a number from 0.01 to 100, not 0"),
    ({"shift": 1e-30}, "shift", "a number from 0.01 to 100, not 1e-30"),
    ({"solver": "ddim"}, "solver", "`unipc`, `dpm++` or `euler`, not `ddim`"),
    ({"task": "flf2v"}, "task", "`t2v`, `i2v` or `v2v`, not `flf2v`"),
    ({"task": "i2v"}, "image", "is required for task `i2v`: the address of an image"),
    ({"task": "v2v"}, "video", "is required for task `v2v`: the address of a video"),
    ({"last_image": "end.png"}, "last_image", "unknown field"),
    ({"model": I2V}, "model", f"`{I2V}` cannot do text to video; for that this worker offers `{T2V}`"),
    ({"model": "bundled"}, "model", f"`bundled` cannot do text to video; for that this worker offers `{T2V}`"),
    ({"loras": [{"name": "tiny-wan-t2v-lor"}]}, "loras", "did you mean `tiny-wan-t2v-lora`?"),
    ({"loras": [{"name": "../../secret"}]}, "loras", "for this model there are `tiny-wan-t2v-lora`"),
    ({"loras": [{"name": "tiny-wan-i2v-lora"}]}, "loras", f"is made for i2v-14b-480p, not for `{T2V}`"),
    ({"loras": [{"name": "mistaken", "strength": 5}]}, "loras[0].strength", "a number from -4 to 4, not 5"),
    ({"loras": ["mistaken"]}, "loras[0]", "must be an object"),
    ({"upscale": {"model": T2V}}, "upscale.model", f"`{T2V}` cannot do upscaling"),
]


@pytest.mark.parametrize(("fields", "name", "words"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_value_is_refused_before_anything_is_loaded(
    door: Inside, fields: Fields, name: str, words: str
) -> None:
    assert_turned_away(door, generate(door, **fields), name, words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Wan2.1-VACE-14B", "is a model of VACE, which this engine does not run"),
        ("Wan-AI/Wan2.1-FLF2V-14B-720P", "is a model of a first and a last frame (FLF2V), which this engine does not"),
        ("wan2.2_t2v_high_noise_14B_fp16", "is a model of Wan2.2, which this engine does not run"),
        ("tiny-wan-t2v-originel", f"the nearest are `{T2V}`"),
    ],
)
def test_a_model_that_nobody_runs_is_refused_by_name(door: Inside, name: str, words: str) -> None:
    assert_turned_away(door, generate(door, model=name), "model", words, "UNKNOWN_MODEL")


def test_a_model_or_lora_that_is_not_here_is_told(door: Inside) -> None:
    reply = generate(door, model="Wan2.1-T2V-14B")
    assert_turned_away(door, reply, "model", "`wan21-t2v-14b` is not in this worker", "MODEL_NOT_BAKED")
    reply = generate(door, loras=[{"name": "gone"}])
    assert_turned_away(door, reply, "loras", "this worker's image lacks the LoRA `gone`", "MODEL_NOT_BAKED")


def test_a_text_model_begins_from_no_image_and_an_image_model_from_nothing_else(door: Inside) -> None:
    still, video = picture(door), clip(door)
    door.web.seen.clear()
    reply = generate(door, image=still, model=T2V)
    assert_turned_away(door, reply, "model", f"cannot do image to video; for that this worker offers `{I2V}`")
    reply = generate(door, video=video, model=I2V)
    assert_turned_away(door, reply, "model", f"cannot do video to video; for that this worker offers `{T2V}`")
    assert_turned_away(door, generate(door, image=still, video=video), "image", "besides `video`: begin from one")
    assert_turned_away(door, generate(door, task="t2v", video=video), "video", "begins from text alone")
    assert door.web.seen == []
    assert_turned_away(door, generate(door, video=still), "video", "give it as `image` for `i2v`")
    assert_turned_away(door, generate(door, image=video), "image", "give it as `video` for `v2v`")


def no_picture(door: Inside) -> str:
    path = door.folder / "no_picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 300)
    return door.offer(path)


def torn(door: Inside) -> str:
    path = samples.still(door.folder / "torn.png", (64, 48))
    path.write_bytes(path.read_bytes()[:-40])
    return door.offer(path)


def bomb(door: Inside) -> str:
    path = door.folder / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    return door.offer(path)


@pytest.mark.parametrize("fields", [{}, {"dry_run": True}], ids=["job", "estimate"])
@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (no_picture, "SOURCE_CORRUPT", "a picture that breaks off or is damaged"),
        (torn, "SOURCE_CORRUPT", "a picture that breaks off or is damaged"),
        (lambda door: picture(door, "long.png", (20_000, 16)), "SOURCE_TOO_LARGE", "may have at most 16384 pixels"),
        (bomb, "SOURCE_TOO_LARGE", "20000x20000"),
    ],
    ids=["no_picture", "torn", "long", "bomb"],
)
def test_an_image_that_cannot_be_begun_from_is_told_before_a_model_is_loaded(
    door: Inside, make: Callable[[Inside], str], code: str, words: str, fields: Fields
) -> None:
    assert_turned_away(door, generate(door, image=make(door), **fields), None, words, code)


def test_a_video_that_breaks_off_is_told_before_a_model_is_loaded(door: Inside) -> None:
    source = door.offer(samples.truncated(door.folder / "cut.mp4", frames=30))
    reply = generate(door, video=source)
    assert_turned_away(door, reply, None, "the source breaks off after frame", "SOURCE_CORRUPT")
    assert (reply["stage"], reply["hint"]) == ("plan", "send the whole file")


def test_more_frames_than_a_video_has_are_refused(door: Inside) -> None:
    words = "asks for 10 frames, and the video has 9 at the model's 16 a second"
    assert_turned_away(door, generate(door, video=clip(door), frames=10), "frames", words)


# ---- Requests that are served -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Changed:
    """A model like `origin` whose file for `role` was made of its own, or of `of` another model's; None for no file.

    words: what is said of it.
    """

    name: str
    words: str
    role: str = "dit"
    origin: str = "tiny-wan-t2v-comfy-fp16"
    file: str | None = "tiny_wan2.1_t2v_fp16.safetensors"
    change: Callable[[Tensors], Tensors] | None = None
    rewrite: Callable[[Path], bytes] = whole

    @property
    def own(self) -> str | None:
        return self.file and f"changed_{self.name}{Path(self.file).suffix}"

    def write(self, checkpoints: Path, folder: Path) -> tuple[str, Mapping[str, str | None]]:
        """Make the file; the model as a catalog is told of it."""
        if self.file is not None and self.own is not None:
            origin = checkpoints / self.file
            if self.change is None:
                (folder / self.own).write_bytes(self.rewrite(origin))
            else:
                save_file(self.change(load_file(origin)), folder / self.own)
        return self.origin, {self.role: self.own}


def with_more(**shapes: tuple[int, ...]) -> Callable[[Tensors], Tensors]:
    """Tensors besides, under the prefix that the others have."""

    def add(tensors: Tensors) -> Tensors:
        prefix = "model.diffusion_model." if any(name.startswith("model.") for name in tensors) else ""
        return tensors | {prefix + name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}

    return add


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


T2V_FILE, I2V_FILE = "tiny_wan2.1_t2v_fp16.safetensors", "tiny_wan2.1_i2v_fp16.safetensors"
VAE_FILE, TEXT_FILE, CLIP_FILE = (
    "tiny_wan_2.1_vae.safetensors", "tiny_umt5_fp16.safetensors", "tiny_clip_vision_h.safetensors",
)  # fmt: skip
KEY = "model.diffusion_model.blocks.1.ffn.0.weight"
GGUF_MODEL, GGUF_FILE = "tiny-wan-t2v-gguf-q8_0", "tiny-wan2.1-t2v-Q8_0.gguf"
IMAGE_MODEL = "tiny-wan-i2v-comfy-fp16"

LOADS = [
    Changed("cut", "it is cut short: it has", rewrite=cut),
    Changed("cut_gguf", "it is cut short: it has", origin=GGUF_MODEL, file=GGUF_FILE, rewrite=cut),
    Changed("half_written", "its beginning was never written", rewrite=half_written),
    Changed("empty", "it is empty", rewrite=lambda file: b""),
    Changed("zeros", "its beginning was never written", rewrite=lambda file: bytes(file.stat().st_size)),
    Changed("renamed", "blocks.1.ffn.0.weight", change=renamed(KEY)),
    Changed("narrowed", "blocks.1.ffn.0.weight is (511, 256), not (512, 256)", change=narrowed(KEY)),
    Changed("autoencoder", "it is no transformer of Wan2.1", file=VAE_FILE),
    Changed("begins_from_an_image", "it is a network for image to video, which needs an image", file=I2V_FILE),
    Changed("begins_from_text", "it is a network for text to video, yet an image", origin=IMAGE_MODEL, file=T2V_FILE),
    Changed("restores", "it is no transformer of Wan2.1", file=LAYOUTS["3b-fp16"].file),
    Changed("vae_cut", "it is cut short: it has", "vae", file=VAE_FILE, rewrite=cut),
    Changed("vae_foreign", "it is no autoencoder of Wan2.1", "vae", file=T2V_FILE),
    Changed("text_cut", "it is cut short: it has", "text_encoder", file=TEXT_FILE, rewrite=cut),
    Changed("text_foreign", "it is no UMT5 encoder", "text_encoder", file=CLIP_FILE),
    Changed("speechless", "it carries no tokenizer and none lies", "text_encoder", file=TEXT_FILE,
            change=without("spiece_model")),
    Changed("no_tokenizer", "it is no model of sentencepiece", "tokenizer", GGUF_MODEL, "tiny_spiece.model",
            rewrite=cut),
    Changed("taciturn", "its tokenizer has", "text_encoder", file=TEXT_FILE,
            change=lambda tensors: tensors | {"shared.weight": tensors["shared.weight"][:600].clone()}),
    Changed("image_foreign", "it is no CLIP vision transformer", "image_encoder", IMAGE_MODEL, VAE_FILE),
]  # fmt: skip
RELATIVES = [
    Changed("flf2v", "a network for a first and a last frame (FLF2V)", origin=IMAGE_MODEL, file=I2V_FILE,
            change=with_more(img_emb__emb_pos=(1, 514, 160))),
    Changed("vace", "a VACE network", change=with_more(vace_patch_embedding__weight=(256, 96, 1, 2, 2))),
]  # fmt: skip
NANS = [
    Changed("nan", "gave values that are no numbers", change=spoilt("model.diffusion_model.head.head.bias")),
    Changed("text_nan", "gave values that are no numbers", "text_encoder", file=TEXT_FILE,
            change=spoilt("encoder.final_layer_norm.weight")),
    Changed("vae_nan", "gave values that are no numbers", "vae", file=VAE_FILE, change=spoilt("decoder.head.2.bias")),
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[Inside]:
    """One worker for every changed model: none may hurt the next job."""
    folder = tmp_path_factory.mktemp("shop")
    changed = folder / "models"
    changed.mkdir()
    models = {case.name: case.write(checkpoints, changed) for case in (*LOADS, *RELATIVES, *NANS)}
    lora = load_file(checkpoints / "tiny_wan_t2v_lora.safetensors")
    save_file({name: t if t.ndim < 2 else t.repeat(2, 2) for name, t in lora.items()}, changed / "mistaken.safetensors")
    (changed / "torn.safetensors").write_bytes(cut(checkpoints / "tiny_wan_t2v_lora.safetensors"))
    catalog = (
        checkpoints / CATALOG,
        wan_catalog_of(folder / "changed.toml", checkpoints, models),
        wan_loras(folder / "loras.toml", LORAS),
    )
    offered = (T2V, I2V, *models)
    with offering(folder, checkpoints, offered, catalog=catalog, models_dir=(changed, checkpoints)) as made:
        yield made


def assert_fit(shop: Inside) -> None:
    """The next job on this worker succeeds, and nothing of the last one lies about."""
    assert shop.leftovers() == []
    reply = generate(shop, id="next", frames=1, steps=1, size="16*16")
    assert (reply.get("status"), reply["output"]["frames"]) == ("completed", 1), reply


def test_a_prompt_of_five_thousand_words_is_cut_and_that_is_said(shop: Inside) -> None:
    reply = generate(shop, prompt="a cat runs over green hills " * 833 + "at night")
    assert (reply["output"]["frames"], codes(reply)) == (5, ["PROMPT_CUT"])
    assert "tokens over the 512 that are read" in reply["warnings"][0]["message"]


def test_any_script_is_a_prompt(shop: Inside) -> None:
    prompt = "🐈\u200d⬛ läuft über 緑の丘 и смотрит على الماء \u202e\x00\ufffd &amp; </s>"
    made = {generate(shop, prompt=text)["output"]["sha256"] for text in (prompt, prompt[:12], "🐈", "緑の丘")}
    assert len(made) > 1


@pytest.mark.parametrize(("frames", "told"), [(64, []), (128, ["WINDOWS"])])
def test_exactly_as_many_frames_come_as_were_asked_for(shop: Inside, frames: int, told: list[str]) -> None:
    reply = generate(shop, frames=frames, steps=1, size="16*16")
    assert (reply["output"]["frames"], reply["output"]["duration"], codes(reply)) == (frames, frames / 16, told)


@pytest.mark.parametrize(
    "fields", [{"size": "16*16"}, {"guidance": 20}, {"guidance": 1}, {"shift": 0.01}, {"shift": 100}], ids=str
)
def test_the_bounds_themselves_are_served(shop: Inside, fields: Fields) -> None:
    assert generate(shop, **fields)["output"]["frames"] == 5


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_an_image_too_narrow_to_keep_its_aspect_is_fitted_where_that_is_asked(shop: Inside, fit: str) -> None:
    source = picture(shop, "line.png", (3000, 3))
    assert "`fit` crop or pad" in generate(shop, image=source, size="832*480")["message"]
    output = generate(shop, image=source, fit=fit)["output"]
    assert (output["width"], output["height"], output["frames"]) == (32, 32, 5)


def test_a_strength_that_leaves_no_step_is_served_and_said(shop: Inside) -> None:
    reply = generate(shop, video=clip(shop), frames=None, strength=0.01)
    assert (reply["output"]["frames"], codes(reply)) == (9, ["NO_STEPS"])


def test_an_image_of_one_pixel_is_enough(shop: Inside) -> None:
    output = generate(shop, image=picture(shop, "dot.png", (1, 1)))["output"]
    assert (output["width"], output["height"], output["frames"]) == (32, 32, 5)


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_a_video_of_one_frame_is_enough(shop: Inside, strength: float) -> None:
    reply = generate(shop, video=clip(shop, "one.mp4", frames=1), frames=None, strength=strength)
    assert (reply["output"]["frames"], reply["output"]["content_type"], codes(reply)) == (1, "image/png", ["ONE_FRAME"])


# ---- Checkpoints ------------------------------------------------------------------------------------------------


def asked(shop: Inside, case: Changed, **fields: Any) -> Reply:
    source = {"image": picture(shop)} if case.origin == IMAGE_MODEL else {}
    return generate(shop, id=case.name, model=case.name, **source, **fields)


@pytest.mark.parametrize("case", LOADS, ids=lambda case: case.name)
def test_a_checkpoint_that_does_not_fit_is_told_by_file(
    shop: Inside, case: Changed, caplog: pytest.LogCaptureFixture
) -> None:
    reply = asked(shop, case)
    assert_refused(shop, reply, "INTERNAL", case.words, retryable=True)
    assert reply["stage"] == "load" and f"{case.own}: " in reply["message"] and "MODELS_DIR" in reply["hint"]
    assert any(str(case.own) in record.exc_text for record in caplog.records if record.exc_text)
    assert case.name not in shop.ask(action="info")["loaded"]
    assert not (shop.folder / "outputs" / case.name).exists()
    assert_fit(shop)


@pytest.mark.parametrize("case", RELATIVES, ids=lambda case: case.name)
def test_a_relative_s_checkpoint_is_refused_by_its_name(shop: Inside, case: Changed) -> None:
    reply = asked(shop, case)
    assert_refused(shop, reply, "UNKNOWN_MODEL", f"{case.own} cannot be run: it is {case.words}", retryable=False)
    assert (reply["stage"], reply["field"]) == ("load", "model")
    assert "it runs Wan2.1's t2v and i2v networks" in reply["message"]
    assert asked(shop, case, dry_run=True)["code"] == "UNKNOWN_MODEL"
    assert_fit(shop)


@pytest.mark.parametrize("case", NANS, ids=lambda case: case.name)
def test_values_that_are_no_numbers_are_never_a_result(shop: Inside, case: Changed) -> None:
    reply = asked(shop, case)
    assert_refused(shop, reply, "INTERNAL", case.words, retryable=True)
    assert reply["stage"] == "process" and not (shop.folder / "outputs" / case.name).exists()
    assert_fit(shop)


def test_a_missing_tokenizer_is_named(tmp_path: Path, checkpoints: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for path in checkpoints.iterdir():
        if path.name != "tiny_spiece.model":
            (models / path.name).symlink_to(path)
    with offering(tmp_path, checkpoints, (GGUF_MODEL,), models_dir=(models,)) as worker:
        reply = generate(worker)
        assert_refused(worker, reply, "MODEL_NOT_BAKED", "its image lacks tiny_spiece.model", retryable=False)
        assert reply["stage"] == "load"
        (facts,) = worker.ask(action="info")["models"]
        assert facts["missing"] == ["tiny_spiece.model"]


def test_a_lora_that_is_not_what_its_name_says_is_told(shop: Inside) -> None:
    reply = generate(shop, loras=[{"name": "mistaken"}])
    assert_refused(shop, reply, "INVALID_INPUT", "`mistaken` does not fit this model: ", retryable=False)
    assert reply["field"] == "loras" and f"{TUNED}.weight" in reply["message"]
    reply = generate(shop, loras=[{"name": "torn"}])
    assert_refused(shop, reply, "INTERNAL", "torn.safetensors: cannot be read", retryable=True)
    assert_fit(shop)
