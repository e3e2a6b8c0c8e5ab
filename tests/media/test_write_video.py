"""Every video container and codec that the tables promise: it plays back, with its frames, times and tags."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine.errors import DiskFull, Internal, InvalidInput
from engine.frames import Colour, Frame
from engine.media.encode import choose_pixel, create
from engine.media.formats import view
from engine.media.outputs import CONTAINERS, default_codec, encoder_crf, problems, size_problems
from tests.media import samples
from tests.media.writing import decoded, frames, planes, psnr, spec_for, times_of, write

PAIRS = [(name, codec) for name, row in CONTAINERS.items() if row.kind == "video" for codec in row.codecs]
TAGS = Colour(primaries=9, transfer=16, matrix=9, range=1, chroma_location=1)
TEN_BIT = [pair for pair in PAIRS if pair[1] != "vp9"]


def _exact(container: str) -> bool:
    return container in ("mp4", "mov")


@pytest.mark.parametrize(("container", "codec"), PAIRS)
def test_each_pair_plays_back_with_its_frames_times_and_tags(container: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{container}"
    spec = spec_for(container, codec, colour=TAGS, time_base=Fraction(1, 12_800))
    write(path, spec, frames(10, spec.pixel))
    found = decoded(path)
    assert [frame.pts * frame.time_base for frame in found] == [Fraction(n, 25) for n in range(10)]
    wanted = planes(7, spec.pixel)
    assert min(psnr(a, b, spec.pixel.bits) for a, b in zip(wanted, view(found[7]), strict=True)) > 38
    first = found[0]
    assert (first.color_primaries, first.color_trc, first.colorspace, first.color_range) == (9, 16, 9, 1)
    with av.open(str(path)) as file:
        assert file.streams.video[0].codec_context.codec.canonical_name == codec


@pytest.mark.parametrize(("container", "codec"), TEN_BIT)
def test_ten_bits_hold_more_levels_than_eight(container: str, codec: str, tmp_path: Path) -> None:
    spec = spec_for(container, codec, bit_depth=10, width=1024, height=32, crf=4)
    ramp = np.broadcast_to(np.arange(1024, dtype=np.uint16), (32, 1024))
    grey = [np.full(shape, 512, np.uint16) for shape in spec.pixel.plane_shapes(1024, 32)[1:]]
    write(tmp_path / "ramp", spec, [Frame((ramp, *grey), Fraction(n, 25)) for n in range(2)])
    luma = view(decoded(tmp_path / "ramp")[0])[0]
    assert luma.dtype == np.uint16
    assert len(np.unique(luma)) > 600
    assert abs(luma.astype(int) - ramp).max() <= 8


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "webm"])
def test_uneven_times_and_a_late_start_are_kept(container: str, tmp_path: Path) -> None:
    gaps = itertools.cycle([3003, 1001, 6006, 500, 3903])
    ticks = [0, *itertools.accumulate(next(gaps) for _ in range(20))]
    times = [Fraction(135_007 + tick, 90_000) for tick in ticks]
    spec = spec_for(container, preset="medium")
    write(tmp_path / "out", spec, frames(20, spec.pixel, times))
    found = times_of(tmp_path / "out")
    if _exact(container):
        assert found == times[:-1]
    else:  # Matroska counts milliseconds
        assert [round(time * 1000) for time in times[:-1]] == [time * 1000 for time in found]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
def test_the_last_frame_keeps_its_length_in_spite_of_reordering(codec: str, tmp_path: Path) -> None:
    times = [Fraction(n, 25) for n in range(20)] + [Fraction(19, 25) + Fraction(1, 2)]
    spec = spec_for("mp4", codec, preset="fast")
    write(tmp_path / "out.mp4", spec, frames(20, spec.pixel, times))
    with av.open(str(tmp_path / "out.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.duration * stream.time_base == times[-1]


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_the_sample_aspect_ratio_is_kept(container: str, tmp_path: Path) -> None:
    spec = spec_for(container, sample_aspect_ratio=Fraction(16, 11))
    write(tmp_path / "out", spec, frames(3, spec.pixel))
    with av.open(str(tmp_path / "out")) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


def test_a_sample_aspect_ratio_that_webm_cannot_tell_is_told_to_the_caller(tmp_path: Path) -> None:
    spec = spec_for("webm", sample_aspect_ratio=Fraction(16, 11))
    assert [note.code for note in write(tmp_path / "out", spec, frames(3, spec.pixel))] == ["ASPECT_RATIO_LOST"]


def test_hevc_in_mp4_bears_the_tag_that_players_want_and_its_index_in_front(tmp_path: Path) -> None:
    spec = spec_for("mp4", "hevc")
    write(tmp_path / "out.mp4", spec, frames(3, spec.pixel))
    data = (tmp_path / "out.mp4").read_bytes()
    assert b"hvc1" in data
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"colr" in data


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_the_mastering_display_of_hdr10_is_carried_over(codec: str, tmp_path: Path) -> None:
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    extra = f"log-level=none:hdr10=1:master-display={display}:max-cll=1000,400"
    source = samples.hdr10(tmp_path / "hdr.mp4", options={"preset": "ultrafast", "x265-params": extra})
    spec = spec_for("mp4", codec, bit_depth=10, colour=samples.HDR10)
    write(tmp_path / "out.mp4", spec, frames(4, spec.pixel), source)
    before, after = (
        {data.type.name: bytes(data) for data in decoded(path)[0].side_data} for path in (source, tmp_path / "out.mp4")
    )
    assert after["CONTENT_LIGHT_LEVEL"] == before["CONTENT_LIGHT_LEVEL"]
    numbers = [np.frombuffer(side["MASTERING_DISPLAY_METADATA"][:80], np.int32) for side in (before, after)]
    ratios = [n[0::2] / n[1::2] for n in numbers]
    assert np.allclose(*ratios, rtol=1e-3)


def test_alpha_of_vp9_and_prores_plays_back(tmp_path: Path) -> None:
    for container, codec, decoder in (
        ("webm", "vp9", "libvpx-vp9"),
        ("mkv", "vp9", "libvpx-vp9"),
        ("mov", "prores", "prores"),
    ):
        spec = spec_for(container, codec, alpha=True)
        write(tmp_path / "out", spec, frames(4, spec.pixel))
        found = view(decoded(tmp_path / "out", decoder)[2])
        assert len(found) == 4
        wanted = planes(2, spec.pixel)
        assert psnr(wanted[3], found[3], spec.pixel.bits) > 40
        assert psnr(wanted[0][:, 32:], found[0][:, 32:], spec.pixel.bits) > 36


def test_impossible_pairs_are_refused_by_field_with_the_way_out() -> None:
    for container, codec, depth, alpha, field, way in (
        ("webm", "h264", 8, False, "codec", "vp9 or av1"),
        ("mp4", "prores", 8, False, "codec", "mov or mkv"),
        ("mov", "vp9", 8, False, "codec", "h264, hevc or prores"),
        ("mp4", "h264", 8, True, "codec", "vp9 in webm"),
        ("mp4", "h264", 12, False, "bit_depth", "8 or 10"),
        ("gif", None, 10, False, "bit_depth", "8"),
        ("png", "h264", 8, False, "codec", "png"),
        ("avi", None, 8, False, "output_format", "mp4"),
    ):
        with pytest.raises(InvalidInput) as caught:
            choose_pixel(container, codec, depth, alpha)
        assert caught.value.field == field
        assert way in caught.value.message


def test_all_wrong_wishes_are_told_at_once() -> None:
    assert [problem.field for problem in problems("mp4", "theora", crf=70, preset="quick")] == [
        "crf",
        "preset",
        "codec",
    ]


def test_crf_is_stretched_to_the_encoders_own_scale() -> None:
    assert [encoder_crf(codec, 51) for codec in ("h264", "hevc", "av1", "vp9")] == [51, 51, 63, 63]
    assert [encoder_crf("av1", crf) for crf in (0, 16, 34)] == [0, 20, 42]


def test_the_default_codec_follows_the_container_and_alpha() -> None:
    assert [default_codec(name) for name in ("mp4", "mov", "mkv", "webm")] == ["h264", "h264", "h264", "vp9"]
    assert [default_codec(name, alpha=True) for name in ("mov", "mkv", "webm")] == ["prores", "vp9", "vp9"]


def test_odd_and_giant_sizes_are_refused_for_video(tmp_path: Path) -> None:
    assert [problem.field for problem in size_problems("mp4", "h264", 33, 17)] == ["width", "height"]
    assert size_problems("mp4", "h264", 20_000, 100)[0].field == "width"
    assert size_problems("png", None, 33, 17) == []
    spec = spec_for("mp4", width=33, height=17)
    with pytest.raises(InvalidInput):
        create(tmp_path / "out.mp4", spec, None)


def test_leaving_with_an_error_leaves_no_file_and_no_thread(tmp_path: Path) -> None:
    for container in ("mp4", "mkv", "gif", "webp", "png_sequence"):
        spec = spec_for(container)
        with pytest.raises(KeyError), create(tmp_path / "out", spec, None) as writer:
            for frame in frames(8, spec.pixel):
                writer.write(frame)
            raise KeyError
        assert list(tmp_path.iterdir()) == []
        assert not writer._thread.is_alive()


def test_a_full_disk_is_told_as_such_and_at_once(tmp_path: Path) -> None:
    for container in ("mp4", "mkv", "gif", "webp", "png", "png_sequence"):
        path = tmp_path / f"{container}.out"
        path.with_name(f"{path.name}.part").symlink_to("/dev/full")  # the kernel's own disk without room
        spec = spec_for(container, width=640, height=480)
        noise = np.random.default_rng(0)
        with pytest.raises(DiskFull), create(path, spec, None) as writer:
            for index in range(1 if container == "png" else 30):
                shapes = spec.pixel.plane_shapes(640, 480)
                grain = tuple(noise.integers(0, 255, shape, np.uint8) for shape in shapes)
                writer.write(Frame(grain, Fraction(index, 25)))
        assert list(tmp_path.iterdir()) == []


def test_what_stops_the_encoder_reaches_the_writer(tmp_path: Path) -> None:
    spec = spec_for("mp4")
    wrong = next(frames(1, spec.pixel, width=32, height=32))
    with pytest.raises(ValueError, match="broadcast"), create(tmp_path / "out.mp4", spec, None) as writer:
        for _ in range(100):
            writer.write(wrong)
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_our_bug_not_an_empty_file(tmp_path: Path) -> None:
    for container in ("mp4", "gif", "png", "webp", "png_sequence"):
        with pytest.raises(Internal, match="no frame"), create(tmp_path / "out", spec_for(container), None):
            pass
        assert list(tmp_path.iterdir()) == []
