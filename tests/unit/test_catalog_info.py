"""`info` tells of models and LoRAs what the catalog states."""

from pathlib import Path
from typing import Any

import pytest

from engine.jobs.desk import Desk
from engine.jobs.services import info
from engine.settings import Settings


@pytest.fixture
def reply(tmp_path: Path) -> dict[str, Any]:
    models = ("seedvr2-3b-fp8", "wan21-t2v-14b-q4_k_m")
    return info(Desk.from_settings(Settings(models=models, scratch_dir=tmp_path, local=True)))


def test_a_model_s_words_and_needs_are_told(reply: dict[str, Any]) -> None:
    model = reply["models"][0]
    assert model["name"] == "seedvr2_3b_fp8_e4m3fn"
    assert model["description"] == "SeedVR2 3B, current weights, at half the memory"
    assert model["description_zh"] == "SeedVR2 3B，fp8，显存减半，最新权重"
    assert model["needs_mb"].keys() == {"least", "whole"}
    assert 4000 < model["needs_mb"]["least"] < model["needs_mb"]["whole"]


def test_a_file_s_origin_and_how_sure_its_digest_is_are_told(reply: dict[str, Any]) -> None:
    assert reply["models"][0]["files"][0] == {
        "name": "seedvr2_3b_fp8_e4m3fn.safetensors",
        "repo": "Comfy-Org/SeedVR2",
        "revision": "df48879708206a403d2a61acd55578c2e80fd233",
        "bytes": 3_392_794_232,
        "sha256": "a0226eaa2c3e6f47ae5ce83225120f16479da890ced1a3bc32b1a14619787914",
        "sources": 4,
        "licence": "Apache-2.0",
    }


def test_loras_are_told_in_both_languages(reply: dict[str, Any]) -> None:
    names = {lora["name"]: lora["description_zh"] for lora in reply["loras"]}
    assert names["lightx2v-t2v-4step"] == "文生视频 4 步加速 LoRA，秩 64"
