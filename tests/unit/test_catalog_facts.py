"""What the catalog states hangs together."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest

from engine import catalog, entries
from engine.catalog import File, Model, built_in, locate

TABLE = tomllib.loads((Path(catalog.__file__).parent / "catalog.toml").read_text("utf-8"))
MODELS, LORAS = built_in().models, built_in().loras
FILES = {file.key: file for owner in (*MODELS, *LORAS) for file in owner.files}
MEASURED = [model for model in MODELS if all(file.bytes for file in model.network)]
EMBEDDED_PROMPTS = 2 * (58 + 64) * 5120  # bytes of SeedVR2's two, where the network's file carries them
HEADER = 400_000  # bytes beside the numbers, at most
LEAST_BITS = entries.BITS | {"Q4_K": 4.5, "Q8_0": 8.5}  # of the blocks alone
WIDER = {"F8_E4M3": 0.03, "Q4_K": 0.25, "Q8_0": 0.05}  # how much larger what surrounds them may make a file


def test_every_file_belongs_to_a_model_or_lora_and_every_source_has_files() -> None:
    assert FILES.keys() == TABLE["file"].keys()
    assert {value["source"] for value in TABLE["file"].values()} == TABLE["source"].keys()


def test_no_two_models_share_a_name() -> None:
    owners: dict[str, set[str]] = {}
    for model in MODELS:
        for name in model.names:
            owners.setdefault(catalog._key(name), set()).add(model.name)
    assert [key for key, names in owners.items() if len(names) > 1] == []


@pytest.mark.parametrize("key", TABLE["file"])
def test_a_digest_is_stated_by_public_sources_or_is_to_be_recorded(key: str) -> None:
    stated = TABLE["file"][key]
    assert re.fullmatch("[0-9a-f]{64}|record", stated["sha256"])
    assert (stated.get("sources", 0) > 0) == (stated["sha256"] != "record")
    assert stated.get("sources", 0) <= 10
    assert stated.get("bytes", 10**3) > 200


def test_no_two_files_are_the_same() -> None:
    digests = [value["sha256"] for value in TABLE["file"].values() if value["sha256"] != "record"]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", TABLE["source"])
def test_a_source_is_pinned_to_a_commit_a_release_or_a_branch_that_is_resolved(name: str) -> None:
    source = TABLE["source"][name]
    if "repo" in source:
        assert re.fullmatch("[0-9a-f]{40}|main", source["revision"])
    elif "url" in source:
        assert source["url"].startswith("https://") and "revision" not in source
        assert re.search("/releases/download$|/[0-9a-f]{40}$", source["url"])
    else:
        assert name == "package"


def test_only_a_revision_that_is_no_commit_is_a_branch() -> None:
    assert entries.Source("MIT", repo="a/b", revision="main").branch
    assert not entries.Source("MIT", repo="a/b", revision="0" * 40).branch
    assert not entries.Source("MIT", url="https://example.com").branch


def test_every_published_file_has_an_address() -> None:
    for key, file in FILES.items():
        assert (file.url is None) == (key == "bundled-x2.safetensors")
    assert FILES["RealESRGAN_x2plus.pth"].url == (
        "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.2.1/RealESRGAN_x2plus.pth"
    )
    assert FILES["Wan2.1-T2V-1.3B/diffusion_pytorch_model.safetensors"].url == (
        "https://huggingface.co/Wan-AI/Wan2.1-T2V-1.3B/resolve/37ec512624d61f7aa208f7ea8140a131f93afc9a/"
        "diffusion_pytorch_model.safetensors"
    )


def test_the_bundled_file_is_the_one_in_the_catalog() -> None:
    model = built_in().models[0]
    (path,) = locate(model, []).paths.values()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model.files[0].sha256


@pytest.mark.parametrize("owner", [*MODELS, *LORAS], ids=lambda owner: owner.name)
def test_everything_is_described_in_both_languages(owner: Model | catalog.Lora) -> None:
    assert owner.description.isascii()
    assert re.search("[\u4e00-\u9fff]{2}", owner.description_zh)


def test_no_two_descriptions_are_the_same() -> None:
    for texts in ([o.description for o in (*MODELS, *LORAS)], [o.description_zh for o in (*MODELS, *LORAS)]):
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("model", MEASURED, ids=lambda model: model.name)
def test_a_network_has_the_size_of_its_parameters_in_its_precision(model: Model) -> None:
    size = sum(file.bytes or 0 for file in model.network)
    prompts_beside = model.family != "seedvr2" or any(file.role == "positive" for file in model.files)
    numbers = model.parameters * LEAST_BITS[model.precision] / 8 + (0 if prompts_beside else EMBEDDED_PROMPTS)
    assert 0 <= size - numbers < HEADER * len(model.network) + WIDER.get(model.precision, 0) * size


def test_what_a_model_downloads_is_the_sum_of_its_files() -> None:
    model = next(model for model in MODELS if model.name == "seedvr2_ema_3b_fp16")
    assert model.download_bytes == 6_783_018_808 + 501_324_814 + 595_100 + 656_540
    assert model.download_bytes == sum(file.bytes or 0 for file in model.files)


def test_a_size_that_nobody_states_is_estimated_for_the_download() -> None:
    model = next(model for model in MODELS if model.name == "wan21-i2v-720p")
    assert all(file.bytes is None for file in model.network)
    assert model.download_bytes > 4 * model.parameters


def test_shards_are_of_one_network() -> None:
    sharded: list[tuple[File, ...]] = [model.network for model in MODELS if len(model.network) > 1]
    assert {len(shards) for shards in sharded} == {6, 7}
    for shards in sharded:
        assert len({(file.folder, file.source) for file in shards}) == 1
