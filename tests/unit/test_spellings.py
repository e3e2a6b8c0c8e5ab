"""Spellings of formats and codecs that mean the same."""

import pytest

from engine.jobs.spellings import CODECS, FORMATS, usual_codec, usual_format


@pytest.mark.parametrize(
    ("given", "usual"),
    [("jpeg", "jpg"), (".jpeg", "jpg"), (".mp4", "mp4"), ("mp4", "mp4"), ("..mp4", ".mp4"), ("", ""), (5, 5)],
)
def test_a_format_may_be_written_as_a_suffix(given: object, usual: object) -> None:
    assert usual_format(given) == usual


@pytest.mark.parametrize(
    ("given", "usual"),
    [
        *((name, "h264") for name in ("avc", "h.264", "x264", "h264")),
        *((name, "hevc") for name in ("h265", "h.265", "x265", "hevc")),
        ("theora", "theora"),
        (None, None),
    ],
)
def test_a_codec_goes_by_its_encoders_name(given: object, usual: object) -> None:
    assert usual_codec(given) == usual


def test_no_spelling_leads_to_another() -> None:
    for spellings in (FORMATS, CODECS):
        assert spellings.keys().isdisjoint(spellings.values())
