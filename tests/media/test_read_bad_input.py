"""What is refused, with which words; what leaves nothing behind; and what cannot reach out."""

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import av
import pytest

from engine.errors import SourceCorrupt, SourceTooLarge, SourceUnsupported
from engine.media.decode import open_media
from engine.media.opening import open_container
from engine.media.probe import Ceilings, Clip, probe
from tests.media import samples
from tests.media.reading import CEILINGS, read


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "an HTML page"),
        (b"\n  <HTML lang='en'>", "an HTML page"),
        (b"<?xml version='1.0'?><MPD></MPD>", "a playlist"),
        (b"<?xml version='1.0'?><svg></svg>", "an SVG drawing"),
        (b'{"error": "expired"}', "JSON"),
        (b"hello, this is only text", "text"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "a playlist"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "a playlist"),
        (b"%PDF-1.7 ....", "a PDF document"),
        (b"PK\3\4" + bytes(60), "a ZIP archive"),
        (b"\0\0\0\x20ftypheic" + bytes(64), "a HEIC picture"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "a sound file"),
        (bytes(range(200, 256)) * 40, "a format that is not read here"),
    ],
)
def test_what_is_no_video_is_named_for_what_it_looks_like(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "upload.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceUnsupported, match=words) as caught:
        probe(path, CEILINGS)
    assert str(tmp_path) not in caught.value.message


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.ogg", "libopus")):
        with pytest.raises(SourceUnsupported, match="only sound"):
            probe(samples.audio_only(tmp_path / name, codec=codec), CEILINGS)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "avi"])
def test_a_video_without_frames_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(SourceUnsupported, match=r"holds no (video )?frames"):
        probe(samples.zero_frames(tmp_path / f"none.{suffix}"), CEILINGS)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "ts", "flv", "avi"])
def test_a_video_cut_off_in_the_middle_is_corrupt_at_a_named_frame(tmp_path: Path, suffix: str) -> None:
    codec = {"webm": "libvpx-vp9", "flv": "flv", "avi": "mpeg4"}.get(suffix, "libx264")
    options = {} if codec == "libx264" else {"options": {"b": "2M"}}
    path = samples.truncated(tmp_path / f"cut.{suffix}", keep=0.6, codec=codec, size=(192, 128), **options)
    info = probe(path, CEILINGS)
    assert not info.complete
    with pytest.raises(SourceCorrupt, match=r"breaks off after frame \d+ \(\d\.\d+ s\)"):
        open_media(path, info)
    with open_media(path, info, allow_partial=True) as reader:
        kept = list(reader.frames())
    assert 20 < len(kept) < 50 and reader.count == len(kept)
    assert [samples.index_of(frame.planes[0]) for frame in kept[:-1]] == list(range(len(kept) - 1))
    assert [note.code for note in reader.warnings if note.code == "PARTIAL_SOURCE"] == ["PARTIAL_SOURCE"]


def test_a_clip_before_the_cut_is_served(tmp_path: Path) -> None:
    path = samples.truncated(tmp_path / "cut.mp4", keep=0.6)
    _, frames, reader = read(path, Clip(end=0.4))
    assert len(frames) == 10 and reader.warnings == []


def test_an_mp4_cut_off_before_its_index_is_corrupt(tmp_path: Path) -> None:
    path = samples.truncated(tmp_path / "cut.mp4", container_options={})
    with pytest.raises(SourceCorrupt, match="without its index"):
        probe(path, CEILINGS)


def test_a_fragmented_mp4_cut_off_is_corrupt(tmp_path: Path) -> None:
    path = samples.truncated(tmp_path / "cut.mp4", container_options={"movflags": "frag_keyframe+empty_moov"})
    info = probe(path, CEILINGS)
    with pytest.raises(SourceCorrupt, match="breaks off"):
        open_media(path, info)


def test_damage_within_names_the_frame_and_keeps_what_came_before(tmp_path: Path) -> None:
    path = samples.damaged(tmp_path / "hurt.mkv", codec="ffv1", length=3000, options={}, size=(64, 48))
    info = probe(path, CEILINGS)
    with open_media(path, info) as reader, pytest.raises(SourceCorrupt, match=r"frame \d+ \(\d\.\d+ s\)"):
        list(reader.frames())
    before = reader.count
    with open_media(path, info, allow_partial=True) as reader:
        assert len(list(reader.frames())) == before > 10
    assert reader.warnings[-1].code == "PARTIAL_SOURCE"


@pytest.mark.parametrize(
    ("name", "codec", "code"),
    [
        ("a.mkv", "libx264", "DAMAGED_FRAMES"),
        ("a.ts", "libx264", "FRAMES_LOST"),
        ("a.webm", "libvpx-vp9", "ENDS_EARLY"),
    ],
)
def test_damage_that_decoders_patch_up_is_told(tmp_path: Path, name: str, codec: str, code: str) -> None:
    options = {} if codec == "libvpx-vp9" else {"preset": "ultrafast", "crf": "10", "g": "10"}
    path = samples.damaged(tmp_path / name, codec=codec, length=400, options=options)
    _, frames, reader = read(path)
    assert len(frames) <= 60
    assert code in [note.code for note in reader.warnings]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_cut_off_is_corrupt(tmp_path: Path, suffix: str) -> None:
    path = samples.animated(tmp_path / f"a.{suffix}", durations=(100,) * 8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(SourceCorrupt):
        read(path)
    if suffix == "webp":  # libwebp opens no torso
        return
    _, frames, reader = read(path, allow_partial=True)
    assert 1 <= len(frames) < 8
    assert reader.warnings[-1].code == "PARTIAL_SOURCE"


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp", "bmp"])
def test_a_picture_cut_off_is_corrupt(tmp_path: Path, suffix: str) -> None:
    path = samples.still(tmp_path / f"a.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceCorrupt):
        read(path)


def bomb(path: Path, width: int, height: int) -> Path:
    """A PNG whose few bytes promise a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000), 9)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    for size in ((16_000, 16_000), (60_000, 60_000)):
        with pytest.raises(SourceTooLarge, match=r"16384 pixels|at most 67108864"):
            probe(bomb(tmp_path / "bomb.png", *size), CEILINGS)


def test_a_20_000_pixel_wide_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceTooLarge, match="20000x64; a side may have at most 16384 pixels"):
        probe(samples.video(tmp_path / "wide.mkv", size=(20_000, 64), frames=1, codec="ffv1"), CEILINGS)


def test_ceilings_are_named(tmp_path: Path) -> None:
    path = samples.video(tmp_path / "a.mp4", frames=50)
    animation = samples.animated(tmp_path / "a.gif", durations=(500,) * 6)
    for source in (path, animation):
        with pytest.raises(SourceTooLarge, match=r"at most 1 s|1 s, the most"):
            probe(source, Ceilings(1, 1000, 10_000))
        with pytest.raises(SourceTooLarge, match="more than 5 frames"):
            probe(source, Ceilings(100, 5, 10_000))
        with pytest.raises(SourceTooLarge, match="at most 1000 are accepted"):
            probe(source, Ceilings(100, 1000, 1000))


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """A server that must not be asked for anything."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/secret", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("disguise", ["{playlist}", "\ufeff{playlist}", "\n\n{playlist}"])
def test_a_playlist_called_mp4_reaches_no_server(tmp_path: Path, disguise: str) -> None:
    with listening() as (url, asked):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"
        (tmp_path / "a.mp4").write_text(disguise.format(playlist=playlist))
        with pytest.raises(SourceUnsupported):
            probe(tmp_path / "a.mp4", CEILINGS)
    assert asked == []


def test_the_container_layer_itself_refuses_what_opens_other_files(tmp_path: Path) -> None:
    contents = {
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
        "concat": "ffconcat version 1.0\nfile '{url}'\n",
        "dash": "<?xml version='1.0'?><MPD><BaseURL>{url}</BaseURL></MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    }
    with listening() as (url, asked):
        for name, text in contents.items():
            (tmp_path / name).write_text(text.format(url=url))
            with pytest.raises(av.FFmpegError):
                open_container(tmp_path / name, 1_000_000)
    assert asked == []


def outside_reference(path: Path, target: bytes) -> Path:
    """An MP4 whose samples are said to lie elsewhere: its `url ` entry loses the self-contained flag."""
    whole = bytearray(samples.video(path, frames=5).read_bytes())
    place = whole.index(b"url ") - 4
    entry = b"url \0\0\0\0" + target + b"\0"
    added = len(entry) + 4 - 12
    whole[place : place + 12] = struct.pack(">I", len(entry) + 4) + entry
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = whole.index(box) - 4
        whole[at : at + 4] = struct.pack(">I", struct.unpack(">I", whole[at : at + 4])[0] + added)
    path.write_bytes(whole)
    return path


def test_samples_that_lie_elsewhere_are_not_fetched(tmp_path: Path) -> None:
    with listening() as (url, asked):
        path = outside_reference(tmp_path / "a.mp4", url.encode())
        info, frames, _ = read(path)  # the samples are in the file after all: the reference was not followed
        assert info.frames == len(frames) == 5
    assert asked == []


def test_leaving_early_stops_the_thread_and_closes_the_file(tmp_path: Path) -> None:
    path = samples.video(tmp_path / "a.mp4", frames=60)
    info = probe(path, CEILINGS)
    with open_media(path, info) as reader:
        frames = list(islice(reader.frames(), 3))
    assert len(frames) == 3
    assert "decode" not in {thread.name for thread in threading.enumerate()}
    assert not any("a.mp4" in name for name in open_files())
    assert frames[2].planes[0].mean() > 0  # what was given stays good


def open_files() -> list[str]:
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return names


def test_fifty_readings_leave_no_file_and_no_thread(tmp_path: Path) -> None:
    sources = [
        samples.video(tmp_path / "a.mp4", frames=8),
        samples.animated(tmp_path / "a.gif"),
        samples.truncated(tmp_path / "b.mkv"),
        samples.still(tmp_path / "a.png"),
    ]
    before = set(threading.enumerate())
    for round_ in range(50):
        path = sources[round_ % 4]
        with open_media(path, probe(path, CEILINGS), allow_partial=True) as reader:
            if round_ % 3:
                next(reader.frames())
            else:
                list(reader.frames())
    assert set(threading.enumerate()) <= before  # others may end
    assert not any(str(tmp_path) in name for name in open_files())


def test_ffmpeg_says_nothing_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = samples.damaged(tmp_path / "a.mkv")
    info = probe(path, CEILINGS)
    with open_media(path, info, allow_partial=True) as reader:
        list(reader.frames())
    assert capfd.readouterr().err == ""
