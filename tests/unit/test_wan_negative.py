"""The negative prompt comes out of configuration files that are never run."""

from pathlib import Path

import pytest

from engine.pipelines.wan.negative import OWN_NEGATIVE, default_negative

SHARED = """
import torch
from easydict import EasyDict
wan_shared_cfg = EasyDict()
wan_shared_cfg.text_len = 512
wan_shared_cfg.sample_neg_prompt = 'grey fog, 雾'
"""
I2V = """
from .shared_config import wan_shared_cfg
i2v_14B = EasyDict(__name__='Config')
i2v_14B.update(wan_shared_cfg)
i2v_14B.sample_neg_prompt = "trembling, " + i2v_14B.sample_neg_prompt
i2v_14B.dim = 5120
"""


def files(folder: Path, **sources: str) -> list[Path]:
    paths = []
    for name, source in sources.items():
        paths.append(folder / f"{name}.py")
        paths[-1].write_text(source, "utf-8")
    return paths


def test_video_from_text_has_the_shared_prompt(tmp_path: Path) -> None:
    assert default_negative(files(tmp_path, wan_i2v_14B=I2V, shared_config=SHARED), "t2v") == "grey fog, 雾"


def test_video_from_an_image_has_more_before_it(tmp_path: Path) -> None:
    for sources in ({"shared_config": SHARED, "wan_i2v_14B": I2V}, {"wan_i2v_14B": I2V, "shared_config": SHARED}):
        assert default_negative(files(tmp_path, **sources), "i2v") == "trembling, grey fog, 雾"


def test_without_its_own_file_it_has_the_shared_prompt(tmp_path: Path) -> None:
    assert default_negative(files(tmp_path, shared_config=SHARED), "i2v") == "grey fog, 雾"


def test_without_the_shared_file_there_is_none(tmp_path: Path) -> None:
    assert default_negative([], "t2v") is None
    assert default_negative(files(tmp_path, wan_i2v_14B=I2V), "i2v") is None


def test_a_prompt_may_be_written_over_several_lines(tmp_path: Path) -> None:
    source = "wan_shared_cfg.sample_neg_prompt = (\n    'grey '\n    'fog, ' +\n    'rain'\n)\n"
    assert default_negative(files(tmp_path, shared_config=source), "t2v") == "grey fog, rain"


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    source = SHARED + f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n"
    assert default_negative(files(tmp_path, shared_config=source), "t2v") == "grey fog, 雾"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("source", ["= no python", "\0", "", "wan_shared_cfg.sample_neg_prompt = load('x')"])
def test_a_file_that_holds_none_gives_none(tmp_path: Path, source: str) -> None:
    assert default_negative(files(tmp_path, shared_config=source), "t2v") is None


def test_files_of_other_kinds_are_not_opened(tmp_path: Path) -> None:
    assert default_negative([tmp_path / "weights.safetensors"], "t2v") is None


def test_our_own_is_short_english() -> None:
    assert OWN_NEGATIVE.isascii()
    assert len(OWN_NEGATIVE) < 250
