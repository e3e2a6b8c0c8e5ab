"""A converted network stands for the published files, and a copy in another repository for a file."""

from pathlib import Path

from engine.catalog import Model, built_in, locate


def model(name: str) -> Model:
    found = built_in().find(name)
    assert found is not None
    return found


def put(path: Path, size: int | None = None) -> Path:
    """A file of that size that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size or 1)
    return path


def test_a_converted_network_stands_for_all_of_its_shards(tmp_path: Path) -> None:
    wan = model("wan21-t2v-14b")
    path = put(tmp_path / "converted" / "wan21-t2v-14b.safetensors", 123)
    located = locate(wan, [tmp_path])
    assert located.paths == {wan.files[0].name: path}
    assert [file.role for file in located.missing] == ["text_encoder", "tokenizer", "vae", "negative_prompt"]


def test_a_converted_network_of_another_model_is_none_of_this(tmp_path: Path) -> None:
    put(tmp_path / "converted" / "seedvr2_7b_fp16.safetensors")
    assert locate(model("seedvr2_ema_7b_fp16"), [tmp_path]).paths == {}


def test_the_second_checkpoint_of_a_mixed_model_is_another_network(tmp_path: Path) -> None:
    mixed = model("realesr-general-x4v3")
    put(tmp_path / "converted" / "realesr-general-x4v3.safetensors")
    assert [file.role for file in locate(mixed, [tmp_path]).missing] == ["weak_denoiser"]


def test_the_first_folder_with_either_form_wins(tmp_path: Path) -> None:
    anime = model("realesr-animevideov3")
    published = put(tmp_path / "a" / anime.files[0].name, anime.files[0].bytes)
    converted = put(tmp_path / "b" / "converted" / "realesr-animevideov3.safetensors")
    assert locate(anime, [tmp_path / "a", tmp_path / "b"]).paths[anime.files[0].name] == published
    assert locate(anime, [tmp_path / "b", tmp_path / "a"]).paths[anime.files[0].name] == converted


def test_within_one_folder_the_converted_network_is_taken(tmp_path: Path) -> None:
    anime = model("realesr-animevideov3")
    put(tmp_path / anime.files[0].name, anime.files[0].bytes)
    converted = put(tmp_path / "converted" / "realesr-animevideov3.safetensors")
    assert list(locate(anime, [tmp_path]).paths.values()) == [converted]


def test_one_cached_repository_holds_all_of_the_default_model(tmp_path: Path) -> None:
    default = model("seedvr2-3b-fp8")
    snapshot = tmp_path / "models--Comfy-Org--SeedVR2" / "snapshots" / "anything"
    network, vae = default.files
    put(snapshot / network.path, network.bytes)
    put(snapshot / "vae" / "seedvr2_ema_vae_fp16.safetensors", vae.bytes)
    assert locate(default, [tmp_path]).missing == ()
