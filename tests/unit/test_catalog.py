"""Names of models, and where their files are looked for."""

from pathlib import Path

import pytest

from engine.catalog import File, built_in, locate
from engine.errors import Internal, InvalidInput, ModelNotBaked, UnknownModel

find, resolve_model = built_in().find, built_in().resolve


@pytest.mark.parametrize(
    "name",
    [
        "seedvr2_ema_3b_fp16",
        "seedvr2_ema_3b_fp16.safetensors",
        "SeedVR2_EMA_3B_FP16.SAFETENSORS",
        " seedvr2_ema_3b_fp16 ",
        "models/SEEDVR2/seedvr2_ema_3b_fp16.safetensors",
    ],
)
def test_a_model_goes_by_its_name_and_its_published_file_name(name: str) -> None:
    model = find(name)
    assert model is not None
    assert model.name == "seedvr2_ema_3b_fp16"


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("realesr-animevideov3.pth", "realesr-animevideov3"),
        ("seedvr2_ema_7b_sharp-Q4_K_M.gguf", "seedvr2_ema_7b_sharp-Q4_K_M"),
        ("Wan-AI/Wan2.1-T2V-1.3B", "wan21-t2v-1.3b"),
        ("wan2.1-t2v-1.3B", "wan21-t2v-1.3b"),
        ("wan2.1_t2v_1.3B_fp16", "wan21-t2v-1.3b-fp16"),
        ("wan2.1_t2v_14B_fp8_scaled.safetensors", "wan21-t2v-14b-fp8"),
        ("wan2.1-i2v-14b-720p-Q4_K_M.gguf", "wan21-i2v-720p-q4_k_m"),
        ("seedvr2_ema_3b.pth", "seedvr2_ema_3b"),
        ("seedvr2-3b-fp16", "seedvr2_3b_fp16"),
        ("seedvr2-3b-fp8", "seedvr2_3b_fp8_e4m3fn"),
        ("seedvr2-3b-q8", "seedvr2_ema_3b-Q8_0"),
        ("seedvr2-3b-q4", "seedvr2_ema_3b-Q4_K_M"),
        ("seedvr2-7b-fp16", "seedvr2_ema_7b_fp16"),
        ("seedvr2-7b-fp8", "seedvr2_ema_7b_fp8_e4m3fn_mixed_block35_fp16"),
        ("seedvr2_7b_fp8_e4m3fn_mixed_block35_fp16.safetensors", "seedvr2_7b_fp8_e4m3fn_mixed_block35_fp16"),
        ("seedvr2-7b-q8", "seedvr2_ema_7b-Q8_0"),
        ("seedvr2-7b-q4", "seedvr2_ema_7b-Q4_K_M"),
        ("seedvr2-7b-sharp-fp16", "seedvr2_ema_7b_sharp_fp16"),
        ("seedvr2-7b-sharp-fp8", "seedvr2_ema_7b_sharp_fp8_e4m3fn_mixed_block35_fp16"),
        ("seedvr2-7b-sharp-q8", "seedvr2_ema_7b_sharp-Q8_0"),
        ("seedvr2-7b-sharp-q4", "seedvr2_ema_7b_sharp-Q4_K_M"),
    ],
)
def test_names_that_services_use_are_found(name: str, canonical: str) -> None:
    model = find(name)
    assert model is not None
    assert model.name == canonical


def test_a_shard_is_no_name_of_a_model() -> None:
    assert find("diffusion_pytorch_model.safetensors") is None


def test_without_a_name_the_first_model_that_can_do_the_task_is_meant() -> None:
    offered = ["bundled", "wan21-i2v-480p", "seedvr2_ema_3b_fp16"]
    assert resolve_model(None, offered).name == "bundled"
    assert resolve_model(None, offered, "i2v").name == "wan21-i2v-480p"


def test_a_family_means_its_first_model_here() -> None:
    assert resolve_model("SeedVR2", ["bundled", "seedvr2_ema_7b_fp16"]).name == "seedvr2_ema_7b_fp16"


def test_a_family_means_a_published_model_before_the_bundled_one() -> None:
    offered = ["bundled", "realesr-animevideov3", "RealESRGAN_x4plus"]
    assert resolve_model("RealESRGAN", offered).name == "realesr-animevideov3"
    assert resolve_model("real-esrgan", ["bundled"]).name == "bundled"


def test_generating_without_a_model_for_it_is_not_baked() -> None:
    with pytest.raises(ModelNotBaked, match="no model here does text to video; this worker offers `bundled`"):
        resolve_model(None, ["bundled"], "t2v")


def test_a_model_that_is_known_but_not_here_lists_what_is() -> None:
    with pytest.raises(
        ModelNotBaked, match="`seedvr2_ema_3b_fp16` is not in this worker; this worker offers `bundled`"
    ):
        resolve_model("seedvr2_ema_3b_fp16.safetensors", ["bundled"])


def test_an_unknown_model_lists_the_nearest_and_what_is_here() -> None:
    with pytest.raises(UnknownModel, match=r"`realesr-animevideov3`.*this worker offers `bundled`"):
        resolve_model("realesr-animevideo3", ["bundled"])


def test_an_unknown_name_is_told_in_brief_and_on_one_line() -> None:
    with pytest.raises(UnknownModel) as caught:
        resolve_model("x\n" * 100_000, ["bundled"])
    assert len(caught.value.message) < 200
    assert "\n" not in caught.value.message


def test_a_model_for_another_task_is_wrong_input() -> None:
    with pytest.raises(InvalidInput, match=r"model: `wan21-t2v-14b` cannot do upscaling; for that this worker offers"):
        resolve_model("wan2.1-t2v-14b", ["bundled", "wan2.1-t2v-14b"])


def test_a_setting_that_names_no_model_is_told() -> None:
    with pytest.raises(UnknownModel, match="MODELS"):
        resolve_model(None, ["bundeld"])


def test_a_family_in_the_setting_is_refused_with_its_models() -> None:
    with pytest.raises(UnknownModel, match=r"`realesrgan` is a family; name the models .*: `bundled`, "):
        resolve_model(None, ["realesrgan", "bundled"])


def fill(path: Path, file: File) -> Path:
    """A file of the published size that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.truncate(file.bytes or 1)
    return path


def test_files_are_found_in_the_first_folder_that_has_them(tmp_path: Path) -> None:
    model = find("realesr-animevideov3")
    assert model is not None
    path = fill(tmp_path / "b" / "realesr-animevideov3.pth", model.files[0])
    located = locate(model, [tmp_path / "a", tmp_path / "b"])
    assert located.paths == {"realesr-animevideov3.pth": path}
    assert located.missing == ()


def test_files_are_found_in_a_hugging_face_cache(tmp_path: Path) -> None:
    model = find("wan2.1-i2v-14b-720p")
    assert model is not None
    snapshot = tmp_path / "models--Wan-AI--Wan2.1-I2V-14B-720P" / "snapshots" / "anything"
    path = fill(snapshot / model.files[0].path, model.files[0])
    assert locate(model, [tmp_path]).paths == {model.files[0].name: path}


def test_shards_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    small, large = find("wan2.1-i2v-14b-480p"), find("wan2.1-i2v-14b-720p")
    assert small is not None
    assert large is not None
    fill(tmp_path / "Wan2.1-I2V-14B-480P" / small.files[0].name, small.files[0])
    fill(tmp_path / small.files[1].name, small.files[1])
    assert set(locate(small, [tmp_path]).paths) == {small.files[0].name}
    assert locate(large, [tmp_path]).paths == {}


def test_a_file_of_another_size_is_another_file(tmp_path: Path) -> None:
    model = find("realesr-animevideov3")
    assert model is not None
    (tmp_path / "realesr-animevideov3.pth").write_bytes(b"<html>")
    assert [file.name for file in locate(model, [tmp_path]).missing] == ["realesr-animevideov3.pth"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("Wan-AI/Wan2.1-FLF2V-14B-720P", "a first and a last frame"),
        ("wan2.1_flf2v_720p_14B_fp16.safetensors", "FLF2V"),
        ("Wan2.1-VACE-14B", "VACE"),
        ("wan2.2_t2v_high_noise_14B_fp16", "Wan2.2"),
    ],
)
def test_relatives_of_wan_that_we_do_not_run_are_told_by_name(name: str, what: str) -> None:
    with pytest.raises(UnknownModel, match=rf"is a model of .*{what}.*, which this engine does not run; this worker"):
        resolve_model(name, ["bundled"], "t2v")


def test_wan_models_have_what_their_task_needs() -> None:
    models = [model for model in built_in().models if model.family == "wan"]
    assert {model.architecture: model.tasks for model in models} == {
        "t2v-1.3b": ("t2v", "v2v"),
        "t2v-14b": ("t2v", "v2v"),
        "i2v-14b-480p": ("i2v",),
        "i2v-14b-720p": ("i2v",),
    }
    for model in models:
        assert model.files[0].role == "dit"
        roles = {file.role for file in model.files}
        text = next(file for file in model.files if file.role == "text_encoder")
        assert ("tokenizer" in roles) == text.name.endswith(".pth"), model.name  # the others carry it
        assert {"shared_config.py"} <= {file.name for file in model.files if file.optional}


# ---- LoRAs


def test_a_lora_goes_by_its_name_and_its_published_file_name() -> None:
    lora = built_in().find_lora(" LightX2V-T2V-4step ")
    assert lora is not None
    assert lora == built_in().find_lora("loras/wan2.1_t2v_14b_lora_rank64_lightx2v_4step.safetensors")
    assert (lora.steps, lora.guidance, lora.shift, lora.solver) == (4, 1.0, 5.0, "euler")
    assert built_in().find_lora("wan21-t2v-14b") is None


def test_a_lora_fits_models_of_its_architectures() -> None:
    lora = built_in().find_lora("lightx2v-i2v-4step")
    assert lora is not None
    fitting = {model.architecture for model in built_in().models if lora.fits(model)}
    assert fitting == {"i2v-14b-480p", "i2v-14b-720p"}


def test_every_lora_is_for_models_that_there_are() -> None:
    architectures = {model.architecture for model in built_in().models if model.family == "wan"}
    for lora in built_in().loras:
        assert lora.architectures
        assert set(lora.architectures) <= architectures


def test_a_lora_is_found_where_all_files_are(tmp_path: Path) -> None:
    lora = built_in().find_lora("lightx2v-t2v-4step")
    assert lora is not None
    assert locate(lora, [tmp_path]).missing == (lora.file,)
    path = fill(tmp_path / lora.file.name, lora.file)
    assert locate(lora, [tmp_path]).paths == {lora.file.name: path}


# ---- an operator's own models

OWN = """
[source.us]
licence = "MIT"

[file."anime_finetune.safetensors"]
source = "us"
role = "dit"

[[model]]
name = "anime_finetune"
family = "seedvr2"
architecture = "3b"
tasks = ["upscale"]
description = "SeedVR2 3B for drawings"
parameters = 3_391_476_448
precision = "F16"
aliases = ["anime"]
files = ["anime_finetune.safetensors", "ema_vae_fp16.safetensors", "pos_emb.pt"]
"""


def own(tmp_path: Path, text: str = OWN) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


def test_an_operator_s_file_adds_models_that_may_share_published_files(tmp_path: Path) -> None:
    both = built_in().with_file(own(tmp_path))
    model = both.find("Anime_Finetune.safetensors")
    assert model is not None and model == both.find("anime") == both.resolve("anime", ["bundled", "anime_finetune"])
    assert [file.role for file in model.files] == ["dit", "vae", "positive"]
    assert model.licence == "MIT" and model.files[0].url is None and model.files[1].url is not None
    assert both.find("bundled") == find("bundled") and find("anime") is None


def test_an_operator_s_files_are_found_where_all_files_are(tmp_path: Path) -> None:
    model = built_in().with_file(own(tmp_path)).find("anime")
    assert model is not None
    (tmp_path / "anime_finetune.safetensors").write_bytes(b"any size")
    assert locate(model, [tmp_path]).paths == {"anime_finetune.safetensors": tmp_path / "anime_finetune.safetensors"}


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ('name = "anime_finetune"', 'name = "Bundled"', "calls a model `Bundled`, a name that `bundled` has already"),
        ('["anime"]', '["seedvr2_3b_fp16.gguf"]', "`seedvr2_3b_fp16.gguf`, a name that `seedvr2_3b_fp16` has already"),
        ("[source.us]", '[file."pos_emb.pt"]\nsource = "us"\nrole = "x"\n[source.us]', "the file `pos_emb.pt` is in"),
        ('"pos_emb.pt"', '"positive.pt"', "`positive.pt` is missing"),
        ('source = "us"', 'source = "them"', "`them` is missing"),
        ('family = "seedvr2"', 'family = "seedvr3"', "no family `seedvr3`; there are esrgan, seedvr2, wan"),
        ('"ema_vae_fp16.safetensors", ', "", "`anime_finetune` has no file of role `vae`, which every seedvr2 model"),
        ('tasks = ["upscale"]', 'tasks = ["i2v"]', "no file of role `image_encoder`, which every i2v model needs"),
        ('"pos_emb.pt"]', '"pos_emb.pt", "pos_emb.pt"]', "two files of `anime_finetune` are called `pos_emb.pt`"),
        ('role = "dit"', 'rule = "dit"', "unexpected keyword argument 'rule'"),
        ('role = "dit"', 'role = "dit"\nsha256 = "unknown"', "`anime_finetune.safetensors` is neither 64 hexadecimal"),
        ('["anime_finetune.safetensors", "ema_vae_fp16.safetensors", "pos_emb.pt"]', "[]", "has no files"),
        ('tasks = ["upscale"]', "", "'tasks'"),
        ('[file."anime_finetune', '[file."../anime_finetune', "`../anime_finetune.safetensors` is no place below a"),
        ('[file."anime_finetune', '[file."/anime_finetune', "`/anime_finetune.safetensors` is no place below a folder"),
        ('role = "dit"', 'role = "dit"\npath = "a/../../b"', "`a/../../b` is no place below a folder"),
        ('role = "dit"', "role = 'dit'\npath = '..\\b'", "`..\\b` is no place below a folder"),
        ('role = "dit"', 'role = "dit"\ncopies = ["us/films/../b"]', "`us/films/../b` is no place below a folder"),
        ('name = "anime_finetune"', 'name = "../anime"', "`../anime` is no name: it is a place"),
        ("[source.us]", "[source.us", "cannot be read: "),
        ("[source.us]", "source = 5", "cannot be read: "),
    ],
)
def test_a_wrong_catalog_file_is_told(tmp_path: Path, was: str, becomes: str, words: str) -> None:
    assert was in OWN
    with pytest.raises(Internal) as caught:
        built_in().with_file(own(tmp_path, OWN.replace(was, becomes, 1)))
    assert caught.value.message.startswith("the setting CATALOG is wrong: own.toml ")
    assert words in caught.value.message


OWN_LORA = """
[source.us]
licence = "MIT"

[file."claymation.safetensors"]
source = "us"
role = "lora"

[[lora]]
name = "claymation"
description = "Everything of clay"
file = "claymation.safetensors"
for = ["t2v-14b"]
"""


def test_an_operator_s_file_adds_loras(tmp_path: Path) -> None:
    both = built_in().with_file(own(tmp_path, OWN_LORA))
    lora = both.find_lora("claymation")
    assert lora is not None and lora.steps is None and both.models == built_in().models
    assert both.loras == (*built_in().loras, lora)


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ('name = "claymation"', 'name = "LightX2V-t2v-4step"', "has a second LoRA of the name `LightX2V-t2v-4step`"),
        ('name = "claymation"', 'name = "loras/claymation"', "`loras/claymation` is no name: it is a place"),
        ('for = ["t2v-14b"]', "", "`for` is missing"),
        ('file = "claymation', 'file = "clay', "`clay.safetensors` is missing"),
        ('description = "Everything of clay"', "", "'description'"),
        ('["t2v-14b"]', '["t2v-14b"]\nsteps = 0', "advises steps 0: from 1 to 100 can be asked for"),
        ('["t2v-14b"]', '["t2v-14b"]\nshift = 0', "advises shift 0: from 0.01 to 100 can be asked for"),
        ('["t2v-14b"]', '["t2v-14b"]\nsolver = "heun"', "advises the solver `heun`; there are unipc, dpm++, euler"),
    ],
)
def test_a_wrong_lora_in_a_catalog_file_is_told(tmp_path: Path, was: str, becomes: str, words: str) -> None:
    assert was in OWN_LORA
    with pytest.raises(Internal) as caught:
        built_in().with_file(own(tmp_path, OWN_LORA.replace(was, becomes, 1)))
    assert words in caught.value.message


def test_a_catalog_file_that_is_not_there_is_told_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(Internal, match=r"own\.toml cannot be read: No such file") as caught:
        built_in().with_file(tmp_path / "own.toml")
    assert str(tmp_path) not in caught.value.message


def test_two_files_of_one_operator_must_not_share_a_name_either(tmp_path: Path) -> None:
    once = built_in().with_file(own(tmp_path))
    with pytest.raises(Internal, match=r"`anime_finetune.safetensors` is in the catalog"):
        once.with_file(own(tmp_path))


@pytest.mark.parametrize(
    ("name", "role", "size"),
    [
        ("wan21-t2v-1.3b", "dit", 5_676_070_424),
        ("wan21-t2v-1.3b", "vae", 507_609_880),
        ("wan21-t2v-14b-q4_k_m", "dit", 10.1e9),
        ("wan21-i2v-480p-q4_k_m", "dit", 11.3e9),
        ("wan21-t2v-14b-bf16", "dit", 28.6e9),
    ],
)
def test_what_files_take_is_known_or_estimated_by_their_precision(name: str, role: str, size: float) -> None:
    model = built_in().find(name)
    assert model is not None
    assert model.bytes_of(role) == pytest.approx(size, rel=0.02 if size % 1e6 == 0 else 0)


def test_a_shared_file_is_found_beside_the_network_and_the_network_nowhere_else(tmp_path: Path) -> None:
    large, small = built_in().find("wan21-t2v-14b"), built_in().find("wan21-t2v-1.3b")
    assert large is not None and small is not None
    tokenizer = next(file for file in large.files if file.role == "tokenizer")
    assert tokenizer.bytes is not None
    repository = tmp_path / "Wan2.1-T2V-14B"
    for path in (tokenizer.path, large.files[0].path, small.files[0].path):
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        with (repository / path).open("wb") as file:
            file.truncate(next(f.bytes or 0 for f in (*large.files, *small.files) if f.path == path))
    assert locate(large, [tmp_path]).paths.keys() == {tokenizer.name, large.files[0].name}
    assert locate(small, [tmp_path]).paths == {}
