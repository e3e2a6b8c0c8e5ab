"""Videos: every frame, at its exact time, in its own layout, upright and whole."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from engine.frames import YUV420P, YUV420P10, PixelFormat
from engine.media.decode import open_media
from engine.media.formats import from_ffmpeg, is_ours, to_ffmpeg
from engine.media.probe import Clip, probe
from tests.media import samples
from tests.media.reading import CEILINGS, read


def seconds(*milliseconds: int) -> list[Fraction]:
    return [Fraction(value, 1000) for value in milliseconds]


def indices(frames: list) -> list[int]:
    return [samples.index_of(frame.planes[0]) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.mp4", "libx264"),
        ("clip.mov", "libx265"),
        ("clip.mkv", "libx264"),
        ("clip.webm", "libvpx-vp9"),
        ("clip.avi", "mpeg4"),
        ("clip.flv", "flv"),
        ("clip.wmv", "wmv2"),
        ("clip.ts", "libx264"),
        ("clip.mpg", "mpeg2video"),
        ("clip.m4v", "mpeg4"),
        ("ünï çødé 日本.mp4", "libx264"),
    ],
)
def test_every_container_gives_all_frames_in_order(tmp_path: Path, name: str, codec: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = samples.video(tmp_path / name, codec=codec, frames=30, options=options, size=(96, 64))
    info, frames, reader = read(path)
    assert (info.kind, info.frames, info.fps, info.variable_rate) == ("video", 30, 25, False)
    assert indices(frames) == list(range(30))
    assert [frame.time - info.start for frame in frames] == [Fraction(n, 25) for n in range(30)]
    assert all(frame.duration == Fraction(1, 25) for frame in frames)
    assert reader.count == 30 and reader.warnings == []
    assert info.bytes == path.stat().st_size


def test_the_container_is_named_by_content_not_suffix(tmp_path: Path) -> None:
    webm = samples.video(tmp_path / "a.webm", codec="libvpx-vp9").rename(tmp_path / "a.mp4")
    quicktime = samples.video(tmp_path / "b.mov").rename(tmp_path / "b.avi")
    assert [probe(path, CEILINGS).container for path in (webm, quicktime)] == ["webm", "mov"]


def test_8_bit_planes_are_views_of_the_decoder_s_memory(tmp_path: Path) -> None:
    path = samples.video(tmp_path / "clip.mp4", size=(66, 48))
    info, frames, _ = read(path)
    assert info.raster.pixel == YUV420P
    assert [plane.shape for plane in frames[3].planes] == [(48, 66), (24, 33), (24, 33)]
    assert all(not plane.flags.owndata and plane.strides[0] > plane.shape[1] for plane in frames[3].planes)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_odd_sizes_are_kept_to_the_sample(tmp_path: Path, suffix: str) -> None:
    info, frames, _ = read(samples.odd_size(tmp_path / f"odd.{suffix}"))
    assert (info.raster.width, info.raster.height) == (33, 17)
    assert [plane.shape for plane in frames[0].planes] == [(17, 33)] * 3
    expected = av.VideoFrame.from_ndarray(samples.picture(4, 33, 17), format="rgb24").reformat(
        format="yuv444p", dst_colorspace="ITU601", dst_color_range="MPEG", interpolation="AREA"
    )
    assert np.array_equal(np.stack(frames[4].planes), expected.to_ndarray())


def test_one_pixel_and_one_frame_make_a_video(tmp_path: Path) -> None:
    path = samples.video(tmp_path / "dot.mkv", size=(1, 1), frames=1, codec="ffv1", pixel="yuv444p")
    info, frames, _ = read(path)
    assert (info.frames, len(frames), frames[0].planes[0].shape) == (1, 1, (1, 1))
    assert info.duration == Fraction(1, 25)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_rate_keeps_every_time(tmp_path: Path, suffix: str) -> None:
    info, frames, _ = read(samples.variable_rate(tmp_path / f"vfr.{suffix}"))
    times = seconds(0, 40, 50, 130, 170, 300, 333, 400, 480, 500, 900, 940)
    assert info.variable_rate
    assert [frame.time for frame in frames] == times
    assert [frame.duration for frame in frames[:-1]] == [b - a for a, b in pairwise(times)]


def test_a_hole_in_an_even_stream_is_told(tmp_path: Path) -> None:
    times = [*range(20), *range(50, 70)]
    path = samples.video(tmp_path / "hole.mp4", frames=40, times=times)
    info, frames, reader = read(path)
    assert [frame.time for frame in frames] == [Fraction(n, 25) for n in times]
    assert info.variable_rate
    assert [note.code for note in reader.warnings] == ["GAP_IN_SOURCE"]


def test_ntsc_times_rounded_to_milliseconds_count_as_a_constant_rate(tmp_path: Path) -> None:
    times = [round(n * 1001 / 30) for n in range(90)]
    path = samples.video(
        tmp_path / "ntsc.mkv", frames=90, times=times, time_base=Fraction(1, 1000), fps=Fraction(30000, 1001)
    )
    info, frames, _ = read(path)
    assert (info.fps, info.variable_rate) == (Fraction(30000, 1001), False)
    assert [frame.time for frame in frames] == seconds(*times)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_late_start_is_kept(tmp_path: Path, suffix: str) -> None:
    options = {"container_options": {"muxdelay": "0"}} if suffix == "ts" else {}
    info, frames, _ = read(samples.start_offset(tmp_path / f"late.{suffix}", seconds=2, **options))
    assert info.start == frames[0].time == 2
    assert info.duration == Fraction(12, 25)


@pytest.mark.parametrize(("degrees", "mirrored"), [(0, True), (90, False), (-90, False), (-90, True), (180, False)])
def test_a_display_matrix_is_applied_to_the_samples(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    lying = {"pixel": "yuv420p", "options": samples.LOSSLESS}
    _, stored, _ = read(samples.video(tmp_path / "stored.mp4", **lying))
    info, shown, _ = read(samples.rotated(tmp_path / "turned.mp4", degrees=degrees, mirrored=mirrored, **lying))
    assert (info.raster.width, info.raster.height) == ((48, 64) if degrees % 180 else (64, 48))
    for before, after in zip(stored[5].planes, shown[5].planes, strict=True):
        expected = np.rot90(before, degrees // 90)  # counter-clockwise, as FFmpeg counts; the mirror comes after
        assert np.array_equal(after, expected[:, ::-1] if mirrored else expected)
        assert min(after.strides) > 0


def test_a_phone_s_video_says_how_far_it_was_turned(tmp_path: Path) -> None:
    info = probe(samples.rotated(tmp_path / "phone.mp4", degrees=-90, sar=Fraction(4, 3)), CEILINGS)
    assert (info.rotation, info.sample_aspect_ratio) == (90, Fraction(3, 4))


def test_422_on_its_side_comes_with_full_chroma(tmp_path: Path) -> None:
    path = samples.rotated(tmp_path / "side.mp4", pixel="yuv422p", options=samples.LOSSLESS)
    info, frames, _ = read(path)
    assert info.raster.pixel == PixelFormat("yuv", 8)
    assert [plane.shape for plane in frames[0].planes] == [(64, 48)] * 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_hdr10_keeps_its_tags_and_all_its_levels(tmp_path: Path, suffix: str) -> None:
    info, frames, _ = read(samples.hdr10(tmp_path / f"hdr.{suffix}"))
    assert info.raster.pixel == YUV420P10
    colour = info.raster.colour
    assert (colour.primaries, colour.transfer, colour.matrix, colour.range) == (9, 16, 9, 1)
    assert colour.hdr
    luma = frames[0].planes[0]
    assert luma.dtype == np.uint16
    assert len(np.unique(luma[40])) > 220  # of 256 columns; 8 bits could tell no more than 220 apart
    assert luma[40, 0] == 64 and int(luma[40, -1]) == pytest.approx(940, abs=4)


@pytest.mark.parametrize("suffix", ["mpg", "ts", "mp4"])
def test_interlaced_frames_are_made_whole_one_for_one(tmp_path: Path, suffix: str) -> None:
    info, frames, reader = read(samples.interlaced(tmp_path / f"tv.{suffix}"))
    assert info.interlaced
    assert len(frames) == info.frames == 12
    assert [frame.time - info.start for frame in frames] == [Fraction(n, 25) for n in range(12)]
    assert [note.code for note in reader.warnings] == ["DEINTERLACED"]
    assert combing(frames[5].planes[0]) < 0.5


def test_woven_fields_are_found_without_a_flag(tmp_path: Path) -> None:
    path = samples.interlaced(tmp_path / "tv.mkv", flagged=False)
    with av.open(str(path)) as container:
        woven = next(container.decode(video=0)).to_ndarray()[:576]
    info, frames, _ = read(path)
    assert info.interlaced and len(frames) == 12
    assert combing(woven) > 4 > 0.5 > combing(frames[5].planes[0])


def combing(luma: np.ndarray) -> float:
    """How much neighbouring lines differ where the picture itself has no horizontal edge."""
    lines = luma[110:470].astype(int)
    return float(abs(lines[1:] - lines[:-1]).mean())


def test_progressive_pictures_under_an_interlaced_flag_are_left_alone(tmp_path: Path) -> None:
    options = {"b": "20M", "flags": "+ilme+ildct", "field_order": "tt"}
    path = samples.video(tmp_path / "film.mpg", codec="mpeg2video", size=(128, 576), frames=30, options=options)
    info, _, reader = read(path)
    assert not info.interlaced
    assert [note.code for note in reader.warnings] == ["INTERLACED_MAYBE"]


def test_audio_chapters_and_silence_are_told(tmp_path: Path) -> None:
    three = probe(samples.three_tracks(tmp_path / "three.mp4"), CEILINGS)
    assert [(t.codec, t.channels, t.rate, t.language) for t in three.audio] == [
        ("aac", 2, 44100, language) for language in ("eng", "fra", "jpn")
    ]
    assert all(track.duration == pytest.approx(1, abs=0.05) for track in three.audio)
    assert probe(samples.with_chapters(tmp_path / "chapters.mkv"), CEILINGS).chapters == 3
    assert probe(samples.silent(tmp_path / "silent.mp4"), CEILINGS).audio == ()


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
def test_webm_alpha_comes_through(tmp_path: Path, codec: str) -> None:
    info, frames, _ = read(samples.vp9_alpha(tmp_path / "a.webm", codec=codec))
    assert info.raster.pixel == PixelFormat("yuv", 8, 2, 2, alpha=True)
    assert len(frames) == info.frames == 6
    alpha = frames[3].planes[3]
    assert alpha[:, :24].mean() == pytest.approx(225, abs=4) and alpha[:, 40:].mean() < 4


def test_prores_4444_alpha_comes_through(tmp_path: Path) -> None:
    info, frames, _ = read(samples.prores_alpha(tmp_path / "a.mov"))
    assert (info.raster.pixel.alpha, info.raster.pixel.bits >= 10, info.codec) == (True, True, "prores")
    top = (1 << info.raster.pixel.bits) - 1
    assert frames[2].planes[3][:, :24].mean() / top == pytest.approx(235 / 255, abs=0.02)


def test_rgb_with_alpha_in_mov_is_reordered(tmp_path: Path) -> None:
    pictures = (samples.fading(index) for index in range(3))
    path = samples.video(tmp_path / "a.mov", frames=3, codec="qtrle", pixel="argb", pictures=pictures)
    info, frames, _ = read(path)
    assert info.raster.pixel == PixelFormat("rgb", alpha=True)
    assert np.array_equal(frames[1].planes[0], samples.fading(1))


@pytest.mark.parametrize(
    ("pixel", "ours", "exact"),
    [
        ("yuvj420p", PixelFormat("yuv", 8, 2, 2), True),
        ("gray", PixelFormat("yuv", 8, 2, 2), True),
        ("gray10le", PixelFormat("yuv", 10, 2, 2), True),
        ("yuv411p", PixelFormat("yuv", 8, 2, 1), True),
        ("yuv410p", PixelFormat("yuv", 8, 2, 2), True),
        ("yuv440p", PixelFormat("yuv", 8), True),
        ("bgr0", PixelFormat("rgb"), False),
        ("gbrp10le", PixelFormat("rgb", 16), False),
        ("yuv422p10le", PixelFormat("yuv", 10, 2, 1), True),
        ("yuva444p10le", PixelFormat("yuv", 10, alpha=True), True),
    ],
)
def test_foreign_layouts_become_the_nearest_of_ours(tmp_path: Path, pixel: str, ours: PixelFormat, exact: bool) -> None:
    codec, name = ("mjpeg", "full.avi") if pixel == "yuvj420p" else ("ffv1", "any.mkv")
    path = samples.video(tmp_path / name, codec=codec, pixel=pixel, frames=2)
    with av.open(str(path)) as container:
        original = next(container.decode(video=0))
        assert original.format.name == pixel
    info, frames, _ = read(path)
    assert info.raster.pixel == ours
    assert [plane.shape for plane in frames[0].planes] == ours.plane_shapes(64, 48)
    if exact:  # luma is not touched by a change of chroma layout
        luma = np.frombuffer(original.planes[0], ours.dtype).reshape(48, -1)[:, :64]
        assert np.array_equal(frames[0].planes[0], luma)
    else:
        expected = original.to_ndarray(format="rgb24").astype(int)
        shift = 0 if ours.bits == 8 else 8
        assert abs((frames[0].planes[0] >> shift).astype(int) - expected).max() <= 1


def test_full_range_is_said(tmp_path: Path) -> None:
    path = samples.video(tmp_path / "full.avi", codec="mjpeg", pixel="yuvj420p", frames=2)
    assert probe(path, CEILINGS).raster.colour.range == 2


@pytest.mark.parametrize("name", ["yuv420p", "yuva444p12le", "rgba64le", "yuv422p10le", "rgb24"])
def test_our_layouts_have_ffmpeg_s_names_and_back(name: str) -> None:
    assert is_ours(name) and to_ffmpeg(from_ffmpeg(name)) == name


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize(
    ("clip", "kept"),
    [
        (Clip(start=1.0), range(25, 75)),
        (Clip(end=0.4), range(10)),
        (Clip(start=0.5, end=1.0), range(13, 25)),
        (Clip(skip_frames=5, max_frames=3), range(5, 8)),
        (Clip(start=2.0, skip_frames=2, max_frames=4), range(52, 56)),
        (Clip(start=2.0, end=2.2, skip_frames=1, max_frames=100), range(51, 55)),
    ],
)
def test_a_clip_is_exact_to_the_frame_and_keeps_times(tmp_path: Path, suffix: str, clip: Clip, kept: range) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    options = {"g": "12", "bf": "2"} | ({"preset": "ultrafast", "crf": "10"} if codec == "libx264" else {"b": "4M"})
    path = samples.video(tmp_path / f"long.{suffix}", codec=codec, frames=75, options=options)
    info, frames, reader = read(path, clip)
    assert indices(frames) == list(kept)
    assert [frame.time - info.start for frame in frames] == [Fraction(n, 25) for n in kept]
    assert reader.expected == len(kept)


def test_an_edit_list_s_cut_frames_are_neither_counted_nor_shown(tmp_path: Path) -> None:
    whole = samples.video(tmp_path / "whole.mp4", frames=30)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.pts -= 10 * 512  # ten frames before zero: the muxer writes an edit list that skips them
                packet.dts -= 10 * 512
                packet.stream = stream
                out.mux(packet)
    info, frames, _ = read(cut)
    assert info.frames == len(frames) == reader_count(cut)


def reader_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "album.mp4"), "w") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 200, 200, "yuvj420p"
        cover.disposition = 1 << 10
        track = out.add_stream("aac", rate=44100)
        track.codec_context.layout = "stereo"
        frame = av.VideoFrame.from_ndarray(samples.picture(0, 200, 200), format="rgb24").reformat(format="yuvj420p")
        frame.pts = 0
        out.mux(cover.encode(frame))
        out.mux(cover.encode())
        samples._tone(out, track, 0.5, 440)
    with pytest.raises(Exception, match="only sound"):
        probe(tmp_path / "album.mp4", CEILINGS)


def test_vp8_reference_pictures_that_are_never_shown_are_not_counted(tmp_path: Path) -> None:
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "500k"}
    path = samples.video(tmp_path / "a.webm", codec="libvpx", frames=60, options=options)
    info, frames, reader = read(path)
    assert info.frames == len(frames) == 60 and reader.warnings == []


def test_open_groups_of_pictures_lose_nothing(tmp_path: Path) -> None:
    options = {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:keyint=10:bframes=3"}
    path = samples.video(tmp_path / "a.mp4", codec="libx265", frames=40, options=options)
    assert indices(read(path)[1]) == list(range(40))
    assert indices(read(path, Clip(start=0.9))[1]) == list(range(23, 40))


def test_a_change_of_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = samples.video(tmp_path / "small.ts", frames=10, size=(64, 48))
    large = samples.video(tmp_path / "large.ts", frames=10, size=(96, 64), start=10)
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    info, frames, reader = read(path)
    assert (info.raster.width, info.raster.height) == (64, 48)
    assert {frame.planes[0].shape for frame in frames} == {(48, 64)}
    assert indices(frames) == [*range(10), *range(10)]
    assert "SIZE_CHANGED" in [note.code for note in reader.warnings]


def test_a_reader_can_be_read_again(tmp_path: Path) -> None:
    path = samples.video(tmp_path / "clip.mp4")
    info = probe(path, CEILINGS)
    with open_media(path, info) as reader:
        first = next(reader.frames())
        assert indices([first]) == [0]
        assert indices(list(reader.frames())) == list(range(12))
