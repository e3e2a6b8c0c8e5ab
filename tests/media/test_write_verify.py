"""Files read back before a job may succeed."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from engine.errors import Internal
from engine.frames import Frame
from engine.media.encode import create
from engine.media.info import Clip
from engine.media.outputs import CONTAINERS, default_codec
from engine.media.probe import probe
from engine.media.verify import verify
from tests.media import samples
from tests.media.writing import ANY, frames, spec_for, write

VIDEOS = [(name, codec) for name, row in CONTAINERS.items() if row.kind == "video" for codec in row.codecs]


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize(("container", "codec"), VIDEOS)
def test_a_written_video_is_found_as_it_went_in(container: str, codec: str, count: int, tmp_path: Path) -> None:
    path, spec = tmp_path / "out", spec_for(container, codec)
    write(path, spec, frames(count, spec.pixel))
    found = verify(path, spec, frames=count, duration=Fraction(count, 25), audio_tracks=0)
    assert (found.container, found.codec, found.frames) == (container, codec, count)
    assert (found.width, found.height) == (64, 48)
    assert float(found.duration) == pytest.approx(count / 25, abs=0.003)
    assert found.bytes == path.stat().st_size
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.content_type == CONTAINERS[container].content_type


@pytest.mark.parametrize(
    ("container", "count"), [("gif", 5), ("webp", 5), ("webp", 1), ("gif", 1), ("png_sequence", 5)]
)
def test_animations_and_sequences_are_counted(container: str, count: int, tmp_path: Path) -> None:
    path, spec = tmp_path / "out", spec_for(container, alpha=True)
    write(path, spec, frames(count, spec.pixel))
    found = verify(path, spec, frames=count, duration=Fraction(count, 25), audio_tracks=0)
    assert (found.frames, found.codec) == (count, default_codec(container))
    assert count == 1 or found.duration == Fraction(count, 25)


@pytest.mark.parametrize("container", ["png", "jpg", "webp"])
def test_stills_are_measured(container: str, tmp_path: Path) -> None:
    path, spec = tmp_path / "out", spec_for(container, width=33, height=17)
    write(path, spec, frames(1, spec.pixel, width=33, height=17))
    found = verify(path, spec, frames=1, duration=Fraction(1, 25), audio_tracks=0)
    assert (found.width, found.height, found.frames, found.pixel_format) == (33, 17, 1, "rgb24")


def test_lost_frames_wrong_lengths_lost_audio_and_wrong_sizes_are_our_bug(tmp_path: Path) -> None:
    source = samples.three_tracks(tmp_path / "source.mp4")
    path, spec = tmp_path / "out.mp4", spec_for("mp4")
    write(path, spec, frames(25, spec.pixel), source)
    right = {"frames": 25, "duration": Fraction(1), "audio_tracks": 3}
    assert verify(path, spec, **right).audio_tracks == 3
    for wrong in ({"frames": 24}, {"duration": Fraction(109, 100)}, {"duration": Fraction(9, 10)}, {"audio_tracks": 2}):
        with pytest.raises(Internal, match="the written file"):
            verify(path, spec, **{**right, **wrong})
    with pytest.raises(Internal, match="64x48 instead of 128x48"):
        verify(path, replace(spec, width=128), **right)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(Internal) as caught:
        verify(path, spec, **right)
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm"])
def test_uneven_late_pictures_with_audio_pass(container: str, tmp_path: Path) -> None:
    source = samples.variable_rate(tmp_path / "source.mkv", start=1500, languages=("eng",))
    info = probe(source, ANY)
    times = [Fraction(1500 + t, 1000) for t in (0, 40, 50, 130, 170, 300, 333, 400, 480, 500, 900, 940, 980)]
    path, spec = tmp_path / "out", spec_for(container, fps=info.fps, time_base=info.time_base, preset="medium")
    with create(path, spec, (source, info, Clip())) as writer:
        for frame in frames(12, spec.pixel, times):
            writer.write(frame)
    found = verify(path, spec, frames=12, duration=times[-1] - times[0], audio_tracks=writer.audio_tracks)
    assert (found.frames, found.audio_tracks) == (12, 1)
    assert abs(found.duration - Fraction(98, 100)) <= Fraction(1, 500)


def test_a_writer_counts_what_it_was_given(tmp_path: Path) -> None:
    spec = spec_for("mp4")

    def stream() -> Iterator[Frame]:
        yield from frames(7, spec.pixel)

    with create(tmp_path / "out.mp4", spec, None) as writer:
        for frame in stream():
            writer.write(frame)
    assert (writer.frames, writer.audio_tracks) == (7, 0)
