"""What comes from the source beside its pictures: audio, subtitles, chapters, metadata."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.frames import Frame
from engine.media.info import Clip
from tests.media import samples
from tests.media.writing import audio_times, frames, spec_for, times_of, write


def _tracks(path: Path) -> list[tuple[str, str | None]]:
    with av.open(str(path)) as file:
        return [(s.codec_context.codec.canonical_name, s.metadata.get("language")) for s in file.streams.audio]


def _payload(path: Path, track: int = 0) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=track) if packet.size]


def _pitch(path: Path, track: int = 0) -> float:
    """The loudest frequency of a track, in Hz."""
    with av.open(str(path)) as file:
        heard = [frame.to_ndarray().astype(float) for frame in file.decode(audio=track)]
        rate = file.streams.audio[track].codec_context.sample_rate
    wave = np.concatenate([h[0] if h.shape[0] > 1 else h[0, ::2] for h in heard])
    return float(np.argmax(np.abs(np.fft.rfft(wave))) * rate / len(wave))


def _clicks(path: Path, seconds: float = 4, at: float = 2.5, codec: str = "pcm_s16le", **options: Any) -> Path:
    """25 frames per second, and silence but for one click."""
    with av.open(str(path), "w", container_options=options) as out:
        video: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"}, width=64, height=48)
        video.codec_context.time_base = video.time_base = Fraction(1, 12_800)
        audio: Any = out.add_stream(codec, rate=48_000)
        audio.codec_context.layout = "mono"
        for index in range(round(seconds * 25)):
            frame: Any = av.VideoFrame.from_ndarray(samples.picture(index), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index * 512, Fraction(1, 12_800)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        wave = np.zeros(round(seconds * 48_000), np.float32)
        wave[round(at * 48_000) : round(at * 48_000) + 96] = 0.9
        for start in range(0, len(wave), 1024):
            part = wave[None, start : start + 1024]
            sound: Any = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 48_000, start, Fraction(1, 48_000)
            out.mux(audio.encode(sound))
        out.mux(audio.encode())
    return path


def _click_heard(path: Path) -> float:
    """When the click sounds, in seconds."""
    with av.open(str(path)) as file:
        for frame in file.decode(audio=0):
            wave = frame.to_ndarray()
            loud = np.flatnonzero(np.abs(wave[0].astype(float)) > (8000 if wave.dtype.kind == "i" else 0.25))
            if len(loud):
                return float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate
    raise AssertionError("no click")


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_three_tracks_are_copied_bit_by_bit_with_their_languages(container: str, tmp_path: Path) -> None:
    source = samples.three_tracks(tmp_path / "source.mp4")
    spec = spec_for(container)
    assert write(tmp_path / "out", spec, frames(25, spec.pixel), source) == []
    assert _tracks(tmp_path / "out") == [("aac", "eng"), ("aac", "fra"), ("aac", "jpn")]
    for track in range(3):
        theirs = _payload(source, track)
        assert _payload(tmp_path / "out", track) == (theirs[1:] if container == "mkv" else theirs)  # less its padding
        assert audio_times(tmp_path / "out", track)[0] == pytest.approx(0, abs=0.025)
    assert times_of(tmp_path / "out")[0] == 0


def test_webm_gets_opus_and_says_so(tmp_path: Path) -> None:
    source = samples.three_tracks(tmp_path / "source.mp4")
    spec = spec_for("webm")
    notes = write(tmp_path / "out.webm", spec, frames(25, spec.pixel), source)
    assert [note.code for note in notes] == ["AUDIO_TRANSCODED"] * 3
    assert _tracks(tmp_path / "out.webm") == [("opus", "eng"), ("opus", "fra"), ("opus", "jpn")]
    assert [_pitch(tmp_path / "out.webm", n) for n in range(3)] == pytest.approx([220, 440, 660], abs=2)
    first, last = audio_times(tmp_path / "out.webm")
    assert first == pytest.approx(0, abs=0.008)
    assert last == pytest.approx(1, abs=0.03)
    assert times_of(tmp_path / "out.webm")[0] == 0


def test_pcm_in_mp4_becomes_aac_and_stays_in_mov(tmp_path: Path) -> None:
    source = samples.video(tmp_path / "source.mkv", frames=25, languages=("deu",), audio_codec="pcm_s16le")
    for container, codec in (("mp4", "aac"), ("mov", "pcm_s16le"), ("mkv", "pcm_s16le")):
        spec = spec_for(container)
        write(tmp_path / "out", spec, frames(25, spec.pixel), source)
        # QuickTime's list of languages has the older of German's two codes.
        assert _tracks(tmp_path / "out") == [(codec, "ger" if container == "mov" else "deu")]
        assert _pitch(tmp_path / "out") == pytest.approx(220, abs=2)


def test_audio_can_be_dropped_and_gif_says_that_it_has_none(tmp_path: Path) -> None:
    source = samples.three_tracks(tmp_path / "source.mp4")
    spec = spec_for("mp4", keep_audio=False)
    assert write(tmp_path / "out.mp4", spec, frames(3, spec.pixel), source) == []
    assert _tracks(tmp_path / "out.mp4") == []
    spec = spec_for("gif")
    assert [note.code for note in write(tmp_path / "out.gif", spec, frames(3, spec.pixel), source)] == ["AUDIO_DROPPED"]


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm"])
def test_the_whole_source_keeps_its_late_start_and_its_sync(container: str, tmp_path: Path) -> None:
    source = samples.start_offset(tmp_path / "source.mkv", seconds=2, frames=25, languages=("eng",))
    spec = spec_for(container, time_base=Fraction(1, 1000))
    times = [Fraction(2) + Fraction(n, 25) for n in range(26)]
    write(tmp_path / "out", spec, frames(25, spec.pixel, times), source)
    assert times_of(tmp_path / "out") == times[:-1]
    assert audio_times(tmp_path / "out")[0] == pytest.approx(audio_times(source)[0], abs=0.025)


@pytest.mark.parametrize(
    ("container", "codec", "suffix"),
    [
        ("mp4", "aac", "mp4"),
        ("mkv", "aac", "mp4"),
        ("mov", "pcm_s16le", "mov"),
        ("mp4", "pcm_s16le", "mov"),
        ("webm", "aac", "mp4"),
        ("mkv", "libopus", "mkv"),
        ("webm", "libopus", "mkv"),
        ("mp4", "libopus", "mkv"),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_sound_and_picture_stay_together(container: str, codec: str, suffix: str, cut: bool, tmp_path: Path) -> None:
    source = _clicks(tmp_path / f"source.{suffix}", codec=codec)
    spec = spec_for(container)
    begin = Fraction(3, 2) if cut else Fraction(0)
    clip = Clip(start=1.5, end=3.5) if cut else Clip()
    count = 50 if cut else 100
    times = [begin + Fraction(n, 25) for n in range(count + 1)]
    write(tmp_path / "out", spec, frames(count, spec.pixel, times), source, clip)
    assert times_of(tmp_path / "out") == [time - begin for time in times[:-1]]
    assert _click_heard(tmp_path / "out") == pytest.approx(_click_heard(source) - float(begin), abs=0.004)
    first, last = audio_times(tmp_path / "out")
    assert first == pytest.approx(0, abs=0.025)
    assert last == pytest.approx(2 if cut else 4, abs=0.045)


def test_audio_longer_and_shorter_than_the_pictures_is_kept_as_it_is(tmp_path: Path) -> None:
    source = _clicks(tmp_path / "source.mov")
    spec = spec_for("mov")
    write(tmp_path / "long.mov", spec, frames(10, spec.pixel), source)
    assert audio_times(tmp_path / "long.mov")[1] == pytest.approx(4)
    longer = [Fraction(n, 5) for n in range(31)]
    write(tmp_path / "short.mov", spec, frames(30, spec.pixel, longer), source)
    assert audio_times(tmp_path / "short.mov")[1] == pytest.approx(4)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_chapters_and_metadata_come_along(container: str, tmp_path: Path) -> None:
    told = {"title": "A title", "artist": "Somebody", "creation_time": "2020-02-03T04:05:06.000000Z"}
    source = samples.with_chapters(tmp_path / "source.mp4", metadata=told)
    spec = spec_for(container)
    write(tmp_path / "out", spec, frames(30, spec.pixel), source)
    with av.open(str(tmp_path / "out")) as file:
        chapters = [(c["metadata"]["title"], float(c["start"] * c["time_base"])) for c in file.chapters()]
        metadata = {name.lower(): value for name, value in file.metadata.items()}
        assert file.streams.video[0].duration is None or len(file.streams.video) == 1
    assert chapters == [("Chapter 1", 0), ("Chapter 2", 0.4), ("Chapter 3", 0.8)]
    assert metadata["title"] == "A title"
    assert metadata["artist"] == "Somebody"
    assert container == "mkv" or metadata["creation_time"] == told["creation_time"]


def test_chapters_are_cut_with_the_clip(tmp_path: Path) -> None:
    source = samples.with_chapters(tmp_path / "source.mp4")
    spec = spec_for("mp4")
    times = [Fraction(n, 25) for n in range(15, 29)]
    write(tmp_path / "out.mp4", spec, frames(13, spec.pixel, times), source, Clip(start=0.6, max_frames=13))
    with av.open(str(tmp_path / "out.mp4")) as file:
        found = [
            (c["metadata"]["title"], c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in file.chapters()
        ]
    assert found == [("Chapter 2", 0, Fraction(1, 5)), ("Chapter 3", Fraction(1, 5), Fraction(13, 25))]


def _subtitled(path: Path, codec: str) -> Path:
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,200 --> 00:00:00,600\nHello\n\n2\n00:00:00,700 --> 00:00:00,900\nWorld\n")
    with av.open(str(text)) as words, av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"}, width=64, height=48)
        subtitle = out.add_stream_from_template(words.streams.subtitles[0])
        subtitle.metadata["language"] = "eng"
        for index in range(25):
            frame: Any = av.VideoFrame.from_ndarray(samples.picture(index), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for packet in words.demux():
            if packet.size:
                packet.stream = subtitle
                out.mux(packet)
    return path


def test_subtitles_are_copied_where_they_fit_and_told_where_not(tmp_path: Path) -> None:
    source = _subtitled(tmp_path / "source.mkv", "subrip")
    spec = spec_for("mkv")
    assert write(tmp_path / "out.mkv", spec, frames(25, spec.pixel), source) == []
    with av.open(str(tmp_path / "out.mkv")) as file:
        words = [(bytes(p), float(p.pts * p.time_base)) for p in file.demux(subtitles=0) if p.size]
        assert file.streams.subtitles[0].metadata["language"] == "eng"
    assert words == [(b"Hello", 0.2), (b"World", 0.7)]
    spec = spec_for("mp4")
    notes = write(tmp_path / "out.mp4", spec, frames(25, spec.pixel), source)
    assert [note.code for note in notes] == ["SUBTITLES_DROPPED"]
    assert "subrip" in notes[0].message


def test_a_turned_source_leaves_no_rotation_behind(tmp_path: Path) -> None:
    source = samples.rotated(tmp_path / "source.mp4", languages=("eng",))
    spec = spec_for("mp4", width=48, height=64)
    write(tmp_path / "out.mp4", spec, frames(3, spec.pixel, width=48, height=64), source)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert next(file.decode(video=0)).rotation == 0


def test_damaged_audio_ends_early_with_a_note_and_the_pictures_are_whole(tmp_path: Path) -> None:
    whole = samples.video(tmp_path / "whole.ts", frames=60, languages=("eng",))
    spec = spec_for("mp4")
    times = list(itertools.accumulate([Fraction(1, 25)] * 60, initial=Fraction(7, 5)))
    write(tmp_path / "out.mp4", spec, frames(60, spec.pixel, times), whole)
    assert len(times_of(tmp_path / "out.mp4")) == 60
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "hurt.ts").write_bytes(data)
    write(tmp_path / "out2.mp4", spec, frames(60, spec.pixel, times), tmp_path / "hurt.ts")
    assert len(times_of(tmp_path / "out2.mp4")) == 60
    assert _tracks(tmp_path / "out2.mp4")


def test_a_minute_of_frames_never_piles_up(tmp_path: Path) -> None:
    """At most the queue's frames, the one being encoded and the one being handed over are alive at a time."""
    spec = spec_for("mp4")
    alive, most = 0, 0

    class Counted(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= self.base is None or not isinstance(self.base, Counted)

    def stream() -> Any:
        nonlocal alive, most
        for frame in frames(200, spec.pixel):
            alive += 1
            most = max(most, alive)
            yield Frame((frame.planes[0].view(Counted), *frame.planes[1:]), frame.time, frame.duration)

    write(tmp_path / "out.mp4", spec, stream())
    assert most <= 8
