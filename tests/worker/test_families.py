"""Whole jobs with a model of SeedVR2's kind: its rules, phases, estimate, failures, and its place in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Cancelled, Internal, OutOfMemory
from engine.jobs.cancel import CancelToken
from engine.jobs.desk import Desk
from engine.jobs.families import FAMILIES
from engine.jobs.progress import Report
from engine.jobs.run import run
from engine.residency import MIB, Residency
from engine.settings import Settings
from tests.media import samples
from tests.worker.doubling import PHASES, Doubler, DoublingFamily, catalog_file, weight_file
from tests.worker.inside import Inside, inside, tiny

MODELS = ("tiny", "other", "third", "foreign", "broken", "absent")
FAMILY = DoublingFamily()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A worker whose operator added models of its own; the files of one of them are not there."""
    folder = tmp_path_factory.mktemp("shop")
    weights = folder / "models"
    for name in ("tiny_vae", "tiny", "other", "third"):
        weight_file(weights, name)
    weight_file(weights, "foreign", "foreign")
    weight_file(weights, "broken", "broken")
    settings = {
        "models": (*MODELS, "bundled", "seedvr2_ema_3b_fp16"),
        "models_dir": (weights,),
        "catalog": (catalog_file(folder / "own.toml", *MODELS),),
    }
    with inside(folder, **settings) as made:
        made.worker.desk.families = {**FAMILIES, "seedvr2": FAMILY}
        yield made


@pytest.fixture
def clip(shop: Inside) -> str:
    return shop.offer(samples.video(shop.folder / "clip.mp4", frames=12))


def codes(reply: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in reply["warnings"]]


# ---- Options ----------------------------------------------------------------------------------------------------


def test_params_and_name_tell_what_was_in_effect(shop: Inside, clip: str) -> None:
    reply = shop.upscale(source=clip, resolution=96, batch_size=7, temporal_overlap=3, vae_quality="low", seed=3)
    assert reply["model"] == "tiny" and codes(reply) == ["BATCH_ROUNDED", "OVERLAP_REDUCED"]
    assert reply["warnings"][0]["message"] == "batch_size 7 was rounded to 5 (4n+1)"
    params = reply["params"]
    assert (params["batch_size"], params["temporal_overlap"]) == (5, 2)
    assert (params["vae_tile_size"], params["vae_tile_overlap"]) == (512, 64)
    assert "tile" not in params and "denoise_strength" not in params
    assert reply["output"]["filename"] == "clip_tiny_f32_96p_b5_clab_s3_0.48s.mp4"
    assert reply["plan"]["batch_size"] == 5
    with shop.worker.desk.upscaler(shop.worker.desk.model("tiny")) as pipeline:
        assert isinstance(pipeline, Doubler)
        assert (pipeline.asked.frames, pipeline.asked.batch_size, pipeline.asked.vae_overlap) == (12, 5, 64)


def test_an_overlap_of_the_rounded_batch_is_refused_before_anything_is_fetched(shop: Inside, clip: str) -> None:
    shop.web.seen.clear()
    reply = shop.upscale(source=clip, batch_size=6, temporal_overlap=5)
    assert (reply["code"], reply["field"], reply["stage"]) == ("INVALID_INPUT", "temporal_overlap", "preflight")
    assert shop.web.seen == []


def test_one_family_does_not_mind_the_rules_of_another(shop: Inside, clip: str) -> None:
    reply = shop.upscale(source=clip, model="bundled", batch_size=6)
    assert (reply["params"]["batch_size"], reply["warnings"]) == (6, [])


# ---- Progress and metrics ---------------------------------------------------------------------------------------


def test_progress_tells_phases_and_time_left_within_the_first_batch(shop: Inside, clip: str) -> None:
    shop.upscale(source=clip, resolution=96)
    reports = [report for report in shop.worker.reports if "phase" in report]
    begun = [report for report in reports if report["message"].startswith(f"{report['phase']}: ")]
    assert [report["phase"] for report in begun] == list(PHASES) * 3  # batches of 5, 5 and 2 frames
    assert begun[0]["message"] == "encode: frame 1 of 12" and begun[-1]["message"] == "color: frame 12 of 12"
    assert begun[1]["frames_done"] == 0 and begun[1]["eta_s"] >= 0
    percents = [report["progress"] for report in shop.worker.reports]
    assert percents == sorted(percents) and percents[-1] == 100
    assert [report["frames_done"] for report in reports][-1] == 12


def test_seconds_of_the_phases_and_of_the_rest_make_up_the_stage(shop: Inside, clip: str) -> None:
    metrics = shop.upscale(source=clip, resolution=96)["metrics"]
    assert list(metrics["phases"]) == [*PHASES, "io"]
    assert sum(metrics["phases"].values()) == pytest.approx(metrics["generation_time"], abs=0.01)
    assert "phases" not in shop.upscale(source=clip, model="bundled")["metrics"]


def test_a_job_is_cancelled_between_the_phases_of_a_batch(shop: Inside, clip: str) -> None:
    token, seen = CancelToken(), list[Report]()

    def sink(report: Report) -> None:
        seen.append(report)
        if report.get("phase") == "dit" and report["frames_done"] == 5:
            token.set()

    job = {"id": "gone", "input": {"source": clip, "resolution": 96}}
    with pytest.raises(Cancelled) as caught:
        run(job, shop.worker.desk, token, sink)
    assert caught.value.stage == "process"  # type: ignore[attr-defined]
    assert seen[-1]["message"] == "dit: frame 7 of 12"
    assert shop.leftovers() == []


def test_what_a_failed_job_had_loaded_is_not_counted_for_the_next(shop: Inside, clip: str) -> None:
    shop.upscale(source=clip)
    shop.ask(action="offload")
    assert shop.upscale(source=clip, model="broken")["stage"] == "process"
    shop.ask(action="warm", model="tiny")
    metrics = shop.upscale(source=clip)["metrics"]
    assert (metrics["cold"], metrics["spin_up_time"]) == (False, 0)


# ---- Estimates --------------------------------------------------------------------------------------------------


def test_an_estimate_needs_no_weights(shop: Inside, clip: str) -> None:
    reply = shop.upscale(source=clip, model="absent", resolution=96, batch_size=10_000, dry_run=True)
    assert reply["status"] == "completed"
    assert codes(reply) == ["BATCH_ROUNDED", "BATCH_CAPPED"]
    assert (reply["params"]["batch_size"], reply["plan"]["batch_size"], reply["plan"]["attempts"]) == (9997, 5, 0)
    assert (reply["estimate"]["peak_mb"], reply["estimate"]["seconds"]) == (5, None)
    assert "absent" not in shop.ask(action="info")["loaded"]
    refused = shop.upscale(source=clip, model="absent")
    assert (refused["code"], refused["stage"]) == ("MODEL_NOT_BAKED", "load")
    assert "lacks absent.safetensors" in refused["message"]


def test_an_estimate_leaves_room_for_weights_whether_they_are_loaded_or_not(tmp_path: Path) -> None:
    weights = tmp_path / "models"
    weight_file(weights, "tiny", size=600 * MIB)
    weight_file(weights, "tiny_vae", size=100 * MIB)
    settings = {"models": ("tiny",), "models_dir": (weights,), "catalog": (catalog_file(tmp_path / "a.toml", "tiny"),)}
    with inside(tmp_path, ram_budget_mb=1000, **settings) as made:
        made.worker.desk.families = {"seedvr2": FAMILY}
        free = []
        for action in ("estimate", "warm", "estimate"):
            made.ask(action=action, **({} if action == "warm" else tiny(tmp_path)))
            free.append(FAMILY.asked.free_bytes // MIB)
    assert free == [300, 300, 300]


# ---- Failures ---------------------------------------------------------------------------------------------------


def test_a_foreign_checkpoint_is_told_by_file_and_key(shop: Inside, clip: str) -> None:
    reply = shop.upscale(source=clip, model="foreign")
    assert (reply["code"], reply["stage"], reply["retryable"]) == ("INTERNAL", "load", True)
    assert "foreign.safetensors: missing blocks.0.attn.proj_qkv.vid.weight" in reply["message"]
    assert str(shop.folder) not in str(reply)


def test_nan_is_a_failure_and_never_a_black_video(shop: Inside, clip: str) -> None:
    reply = shop.upscale(id="black", source=clip, model="broken")
    assert (reply["code"], reply["stage"]) == ("INTERNAL", "process")
    assert reply["message"] == "the model's output holds NaN"
    assert not (shop.folder / "outputs" / "black").exists() and shop.leftovers() == []


def test_a_wrong_catalog_is_told_to_whoever_runs_the_worker(tmp_path: Path) -> None:
    wrong = catalog_file(tmp_path / "own.toml", "bundled")
    settings = Settings.from_env({"CATALOG": f"{catalog_file(tmp_path / 'good.toml', 'tiny')}:{wrong}"})
    with pytest.raises(Internal, match=r"the setting CATALOG is wrong: own.toml"):
        Desk.from_settings(settings)


# ---- Info -------------------------------------------------------------------------------------------------------


def test_info_tells_what_a_seedvr2_model_is_made_of(shop: Inside) -> None:
    facts = {model["name"]: model for model in shop.ask(action="info")["models"]}
    own, published = facts["tiny"], facts["seedvr2_ema_3b_fp16"]
    assert (own["architecture"], own["licence"], own["missing"]) == ("3b", "Apache-2.0", [])
    assert (published["family"], published["precision"], published["licence"]) == ("seedvr2", "F16", "Apache-2.0")
    names = ["seedvr2_ema_3b_fp16.safetensors", "ema_vae_fp16.safetensors", "pos_emb.pt", "neg_emb.pt"]
    assert [file["name"] for file in published["files"]] == published["missing"] == names
    assert all(len(file["sha256"]) == 64 and file["bytes"] > 0 for file in published["files"])


# ---- Memory -----------------------------------------------------------------------------------------------------


class Device(Residency[Any, Any]):
    """Has 1,000 MiB, and each loaded model takes 300 of them."""

    def free_bytes(self) -> int:
        return (1000 - 300 * len(self.loaded)) * MIB


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        (333, ["tiny", "other", "third"]),  # 399.6 MiB with the margin, and 400 are free
        (334, ["other", "third"]),
        (584, ["third"]),
        (900, ["third"]),  # may not fit at all: tried nevertheless
    ],
)
def test_models_leave_oldest_first_until_another_has_room(
    shop: Inside, tmp_path: Path, size: int, kept: list[str]
) -> None:
    desk = shop.worker.desk
    for name in ("tiny_vae", "tiny", "other", "third"):
        weight_file(tmp_path, name, size=size * MIB if name == "third" else 0)
    settings = desk.settings.model_copy(update={"models_dir": (tmp_path,)})
    small = Desk(settings, desk.fetcher, desk.deliverer, Device(settings), desk.catalog, desk.families)
    for name in ("tiny", "other", "third"):
        with small.upscaler(small.model(name)):
            pass
    assert [name for name, _ in small.residency.loaded] == kept


def test_a_model_that_does_not_fit_even_alone_is_told_so_and_leaves_nothing(shop: Inside, tmp_path: Path) -> None:
    desk = shop.worker.desk
    for name, fate in (("tiny_vae", "good"), ("tiny", "good"), ("other", "hungry")):
        weight_file(tmp_path, name, fate)
    settings = desk.settings.model_copy(update={"models_dir": (tmp_path,)})
    small = Desk(settings, desk.fetcher, desk.deliverer, desk.residency, desk.catalog, desk.families)
    with small.upscaler(small.model("tiny")):
        pass
    with (
        pytest.raises(OutOfMemory, match=r"`other` takes 0 MB, more than the \d+ here"),
        small.upscaler(small.model("other")),
    ):
        pass
    assert small.residency.loaded == []


def test_a_model_above_the_operator_s_budget_is_refused_with_what_would_fit(tmp_path: Path) -> None:
    weights, names = tmp_path / "models", ("tiny", "other", "third")
    for name, size in (("tiny_vae", 0), ("tiny", 600), ("other", 100), ("third", 380)):
        weight_file(weights, name, size=size * MIB)
    settings = {"models": names, "models_dir": (weights,), "catalog": (catalog_file(tmp_path / "a.toml", *names),)}
    with inside(tmp_path, ram_budget_mb=400, **settings) as made:
        made.worker.desk.families = {**FAMILIES, "seedvr2": FAMILY}
        reply = made.ask(action="warm", model="tiny")
        assert made.ask(action="warm", model="third")["loaded"] == ["third"]
    assert (reply["code"], reply["message"]) == ("OUT_OF_MEMORY", "`tiny` takes 600 MB, more than the 400 here")
    assert reply["hint"].endswith("`other`, or an endpoint with more memory")
