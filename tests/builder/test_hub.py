"""What RunPod's Hub reads agrees with the settings, the catalog and the image."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.catalog import built_in
from engine.jobs.cancel import CancelToken
from engine.jobs.desk import Desk
from engine.jobs.run import run
from engine.settings import Settings
from tests.builder.dockerfile import ROOT, arguments, read
from tests.builder.test_image_targets import BESIDES_WEIGHTS, TARGETS, weight_bytes

HUB = json.loads((ROOT / ".runpod" / "hub.json").read_text("utf-8"))
TESTS = json.loads((ROOT / ".runpod" / "tests.json").read_text("utf-8"))
ASKED = {each["key"]: each["input"] for each in HUB["config"]["env"]}
SETTINGS = {name.upper(): field for name, field in Settings.model_fields.items() if name != "runpod_webhook_get_job"}
FILE = read()


@pytest.mark.parametrize("name", ["hub", "tests"])
def test_the_file_is_of_the_form_that_the_hub_reads(name: str) -> None:
    schema = json.loads((ROOT / "tests" / "data" / "schemas" / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((ROOT / ".runpod" / f"{name}.json").read_text("utf-8")), schema)


def test_every_setting_is_asked_for_once() -> None:
    assert len(ASKED) == len(HUB["config"]["env"])
    assert ASKED.keys() == SETTINGS.keys() | {"RUNPOD_INIT_TIMEOUT"}


@pytest.mark.parametrize("key", sorted(SETTINGS.keys() - {"MODELS"}))
def test_a_settings_default_is_the_workers_own(key: str) -> None:
    given = ASKED[key].get("default", "")
    text = ASKED[key]["trueValue" if given else "falseValue"] if isinstance(given, bool) else str(given)
    assert getattr(Settings.from_env({key: text}), key.lower()) == SETTINGS[key].default


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_every_choice_and_bound_is_one_that_the_worker_takes(key: str) -> None:
    asked = ASKED[key]
    values = [
        *(each["value"] for each in asked.get("options", ())),
        *(asked[end] for end in ("min", "max") if end in asked),
    ]
    assert all(Settings.from_env({key: str(value)}) for value in values)


def test_models_and_the_time_to_start_are_those_of_the_image() -> None:
    assert ASKED["MODELS"]["default"] == arguments(FILE.final)["MODELS"]
    assert f"RUNPOD_INIT_TIMEOUT={ASKED['RUNPOD_INIT_TIMEOUT']['default']}" in " ".join(FILE.final.texts("ENV"))


def test_the_models_of_every_preset_are_in_the_catalog() -> None:
    presets = [each["defaults"] for each in HUB["config"]["presets"]]
    names = {name for given in presets for name in given["MODELS"].split(",")}
    assert {name for name in names if not built_in().find(name)} == set()
    assert {key for given in presets for key in given} <= ASKED.keys()


def test_a_preset_says_whether_the_image_holds_its_models() -> None:
    """The Hub builds one image, without arguments."""
    held = {FILE.arguments["MODEL_1"], "bundled"}
    for preset in HUB["config"]["presets"]:
        inside = set(preset["defaults"]["MODELS"].split(",")) <= held
        assert preset["name"].endswith("(in the image)" if inside else "(network volume)")


def test_a_preset_of_real_esrgan_offers_what_the_image_of_that_name_does() -> None:
    [preset] = [each["defaults"] for each in HUB["config"]["presets"] if "Real-ESRGAN" in each["name"]]
    assert preset["MODELS"] == TARGETS["realesrgan"]["args"]["MODELS"]


def test_the_disk_holds_the_image_and_as_much_for_jobs_as_the_pages_say() -> None:
    assert weight_bytes("seedvr2-3b-fp8") + BESIDES_WEIGHTS + 20e9 <= HUB["config"]["containerDiskInGb"] * 1e9


def test_hosts_have_a_driver_for_the_images_torch() -> None:
    found = re.search(r"/cu(\d+)(\d)$", FILE.arguments["TORCH_INDEX"])
    assert found
    versions = [tuple(map(int, version.split("."))) for version in HUB["config"]["allowedCudaVersions"]]
    assert min(versions) == (int(found[1]), int(found[2]))
    assert TESTS["config"]["allowedCudaVersions"] == HUB["config"]["allowedCudaVersions"]


@pytest.mark.parametrize("job", TESTS["tests"], ids=lambda job: str(job["name"]))
def test_the_hubs_jobs_succeed_and_are_tiny(job: dict[str, Any], tmp_path: Path) -> None:
    settings = Settings(models=("bundled",), scratch_dir=tmp_path, device="cpu", runpod_webhook_get_job="here")
    reply = run({"id": "hub", "input": job["input"]}, Desk.from_settings(settings), CancelToken(), lambda report: None)
    assert "error" not in reply
    assert len(json.dumps(job)) < 1000
    assert job["timeout"] == 300_000
