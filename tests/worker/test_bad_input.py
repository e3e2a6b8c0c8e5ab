"""Bad and odd input, one whole job a line: what is refused, in which words, and what is served all the same."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from PIL import Image

from engine.jobs.scratch import scratch_dir
from engine.media.info import Ceilings
from engine.media.probe import probe
from tests.media import samples
from tests.media.test_read_bad_input import bomb
from tests.storage.servers import answer, drop, file
from tests.worker.inside import INWARD, Inside, Reply, inside, tiny

Fields = dict[str, Any]
CEILINGS = Ceilings(seconds=100, frames=1000, pixels=8192 * 8192)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """One worker for every line of the tables: none may hurt the next."""
    with inside(tmp_path_factory.mktemp("shop")) as made:
        yield made


def clip(shop: Inside, make: Callable[..., Path] = samples.video, name: str = "clip.mp4", **options: Any) -> str:
    """The URL of a small file that `make` made."""
    return shop.offer(make(shop.folder / name, **{"frames": 4, **options}))


def refusing(shop: Inside, status: int) -> str:
    return shop.web.script(f"/{status}.mp4", answer(status))


def short(shop: Inside) -> str:
    """A server that announces more than it ever sends, and cannot resume."""
    content = samples.video(shop.folder / "short.mp4").read_bytes()
    return shop.web.script("/short.mp4", file(content, stop_at=2000, ranges=False))


def page(shop: Inside) -> str:
    return shop.web.script("/page.mp4", answer(200, b"<!DOCTYPE html><title>Please sign in</title>"))


def sound(shop: Inside) -> str:
    return shop.offer(samples.audio_only(shop.folder / "sound.mp4"))


def nothing(shop: Inside) -> str:
    return shop.offer(samples.zero_frames(shop.folder / "nothing.mp4"))


def cut(shop: Inside) -> str:
    return shop.offer(samples.truncated(shop.folder / "cut.mp4", frames=24))


def wide(shop: Inside) -> str:
    return clip(shop, name="wide.mkv", size=(20_000, 16), frames=1, codec="ffv1")


def bombed(shop: Inside) -> str:
    return shop.offer(bomb(shop.folder / "bomb.png", 16_000, 16_000))


def escaping(shop: Inside) -> str:
    """A link on the volume that leads away from it."""
    (shop.folder / "secret.mp4").write_bytes(b"secret")
    (shop.root / "link.mp4").unlink(missing_ok=True)
    (shop.root / "link.mp4").symlink_to(shop.folder / "secret.mp4")
    return "link.mp4"


@dataclass(frozen=True)
class Refused:
    name: str
    given: Callable[[Inside], Any]
    code: str
    words: str
    retryable: bool = False
    field: str | None = None


REFUSED = [
    Refused("empty body", lambda shop: {}, "INVALID_INPUT", "is empty", field="input"),
    Refused("no body", lambda shop: None, "INVALID_INPUT", "is empty", field="input"),
    Refused("a list", lambda shop: [1, 2], "INVALID_INPUT", "must be an object", field="input"),
    Refused("unknown key", lambda shop: {"sorce": "a.mp4"}, "INVALID_INPUT", "did you mean `source`"),
    Refused("wrong type", lambda shop: {"source": "a.mp4", "crf": "good"}, "INVALID_INPUT", "crf: ", field="crf"),
    Refused("two wrong types", lambda shop: {"source": 7, "seed": []}, "INVALID_INPUT", "seed: "),
    Refused(
        "contradictory sizes",
        lambda shop: {"source": "a.mp4", "output_dims": [64]},
        "INVALID_INPUT",
        "output_dims: ",
        field="output_dims",
    ),
    Refused("contradictory clip", lambda shop: {"source": "a.mp4", "start": 5, "end": 2}, "INVALID_INPUT", "before"),
    Refused(
        "huge size",
        lambda shop: {"source": clip(shop), "output_dims": [16384, 16384]},
        "INVALID_INPUT",
        "at most 67108864",
        field="output_dims",
    ),
    Refused(
        "huge factor",
        lambda shop: {"source": clip(shop, size=(640, 480)), "outscale": 32},
        "INVALID_INPUT",
        "20480x15360",
    ),
    Refused("beyond any size", lambda shop: {"source": "a.mp4", "width": 10**9}, "INVALID_INPUT", "width: "),
    Refused("404", lambda shop: {"source": refusing(shop, 404)}, "SOURCE_NOT_FOUND", "answered 404", field="source"),
    Refused("403", lambda shop: {"source": refusing(shop, 403)}, "SOURCE_FORBIDDEN", "answered 403", field="source"),
    Refused("500", lambda shop: {"source": refusing(shop, 500)}, "SOURCE_UNREACHABLE", "answered 500", True, "source"),
    Refused(
        "redirect to the metadata service",
        lambda shop: {
            "source": shop.web.script("/away", answer(302, Location="http://169.254.169.254/latest/meta-data"))
        },
        "SOURCE_BLOCKED",
        "169.254.169.254 leads to a private, loopback, link-local",
    ),
    Refused(
        "a name that resolves to 127.0.0.1",
        lambda shop: {"source": f"http://{INWARD}:{shop.web.server_port}/a.mp4"},
        "SOURCE_BLOCKED",
        f"{INWARD} leads to a private, loopback",
    ),
    Refused(
        "localhost",
        lambda shop: {"source": f"http://localhost:{shop.web.server_port}/a.mp4"},
        "SOURCE_BLOCKED",
        "localhost leads to a private, loopback",
    ),
    Refused(
        "body shorter than announced", lambda shop: {"source": short(shop)}, "SOURCE_UNREACHABLE", "127.0.0.1", True
    ),
    Refused(
        "HTML called .mp4", lambda shop: {"source": page(shop)}, "SOURCE_UNSUPPORTED", "the source is an HTML page"
    ),
    Refused("audio only", lambda shop: {"source": sound(shop)}, "SOURCE_UNSUPPORTED", "holds only sound"),
    Refused("zero frames", lambda shop: {"source": nothing(shop)}, "SOURCE_UNSUPPORTED", "holds no video frames"),
    Refused("cut off in the middle", lambda shop: {"source": cut(shop)}, "SOURCE_CORRUPT", "breaks off after frame"),
    Refused("20,000 pixels wide", lambda shop: {"source": wide(shop)}, "SOURCE_TOO_LARGE", "20000x16"),
    Refused("bomb PNG", lambda shop: {"source": bombed(shop)}, "SOURCE_TOO_LARGE", "16000x16000"),
    Refused(
        "path in filename",
        lambda shop: {"source": clip(shop), "filename": "../../etc/cron.d/x.mp4"},
        "INVALID_INPUT",
        "must be a plain file name",
        field="filename",
    ),
    Refused(
        "path in key",
        lambda shop: {"source": clip(shop), "destination": {"bucket": "s3://b", "key": "../other/x.mp4"}},
        "INVALID_INPUT",
        "must not hold `..`",
        field="destination.key",
    ),
    Refused(
        "path out of the volume",
        lambda shop: {"source": clip(shop), "destination": {"volume": "/etc"}},
        "NO_DESTINATION",
        "allowed folders",
        field="destination.volume",
    ),
    Refused("path of the system", lambda shop: {"source": "/etc/passwd"}, "SOURCE_FORBIDDEN", "allowed folders"),
    Refused("climbing path", lambda shop: {"source": "../../etc/passwd"}, "SOURCE_FORBIDDEN", "allowed folders"),
    Refused("link that leads away", lambda shop: {"source": escaping(shop)}, "SOURCE_FORBIDDEN", "allowed folders"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name.replace(" ", "-"))
def test_is_refused_in_plain_words_and_the_next_job_is_fine(shop: Inside, case: Refused) -> None:
    reply = shop.run({"id": "job-1", "input": case.given(shop)})
    assert_refused(shop, reply, case.code, case.words, retryable=case.retryable)
    if case.field:
        assert reply["field"] == case.field
    assert_fit(shop)


def assert_refused(shop: Inside, reply: Reply, code: str, words: str, *, retryable: bool) -> None:
    """The contract's failure: a code, one clear sentence, nothing of the machine, nothing left behind."""
    assert (reply.get("code"), reply.get("retryable")) == (code, retryable), reply
    assert reply["error"] == f"{code}: {reply['message']}"
    assert words in reply["message"]
    assert "\n" not in reply["message"] and 10 < len(reply["message"]) < 400
    assert set(reply) >= {"error", "code", "message", "hint", "field", "stage", "retryable"}
    assert_says_nothing_of_the_machine(shop, reply)
    assert shop.leftovers() == []


def assert_says_nothing_of_the_machine(shop: Inside, reply: Reply) -> None:
    text = json.dumps(reply)
    for secret in (str(shop.folder), str(Path(__file__).parents[2]), "Traceback", "site-packages", 'File "', "/etc/"):
        assert secret not in text


def assert_fit(shop: Inside) -> None:
    """The next job on this worker succeeds."""
    reply = shop.upscale(id="next", **tiny(shop.folder))
    assert (reply.get("status"), reply["output"]["width"]) == ("completed", 16), reply
    assert shop.leftovers() == []


def dropped(shop: Inside) -> str:
    """The line breaks at half of the file; the server can resume."""
    content = samples.video(shop.folder / "dropped.mp4", frames=4).read_bytes()
    half = file(content, stop_at=len(content) // 2, ETag='"1"')
    return shop.web.script("/dropped.mp4", half, file(content, ETag='"1"'))


def animation(shop: Inside) -> str:
    return shop.offer(samples.animated(shop.folder / "a.gif", (20, 70, 330, 100)))


@dataclass(frozen=True)
class Served:
    name: str
    given: Callable[[Inside], Fields]
    output: Fields
    codes: tuple[str, ...] = ()


SERVED = [
    Served("dropped at half", lambda shop: {"source": dropped(shop)}, {"frames": 4, "width": 128}),
    Served(
        "cut off, what is there is wanted",
        lambda shop: {"source": cut(shop), "allow_partial": True},
        {"codec": "h264", "width": 128},
        ("FRAMES_LOST", "PARTIAL_SOURCE"),
    ),
    Served(
        "one frame",
        lambda shop: {"source": clip(shop, name="one.mp4", frames=1)},
        {"frames": 1, "codec": "h264", "content_type": "video/mp4", "duration": 0.04},
    ),
    Served(
        "odd size",
        lambda shop: {"source": clip(shop, samples.odd_size, "odd.mp4")},
        {"frames": 4, "width": 66, "height": 34, "pixel_format": "yuv420p"},
    ),
    Served(
        "odd size kept",
        lambda shop: {"source": clip(shop, samples.odd_size, "odd.mp4"), "outscale": 1},
        {"frames": 4, "width": 32, "height": 16},
        ("SIZE_ROUNDED",),
    ),
    Served(
        "1x1 picture",
        lambda shop: {"source": shop.offer(samples.still(shop.folder / "dot.png", (1, 1)))},
        {"width": 2, "height": 2, "codec": "png", "content_type": "image/png"},
    ),
    Served(
        "1x1 video",
        lambda shop: {"source": clip(shop, name="dot.mkv", size=(1, 1), codec="ffv1", pixel="yuv444p")},
        {"frames": 4, "width": 2, "height": 2},
    ),
    Served(
        "GIF with alpha to GIF",
        lambda shop: {"source": animation(shop), "output_format": "gif"},
        {"frames": 4, "codec": "gif", "duration": 0.52},
    ),
    Served(
        "GIF with alpha to WebM",
        lambda shop: {"source": animation(shop), "output_format": "webm"},
        {"frames": 4, "codec": "vp9", "pixel_format": "yuva420p", "duration": 0.52},
    ),
    Served(
        "GIF with alpha to MP4",
        lambda shop: {"source": animation(shop)},
        {"frames": 4, "codec": "h264", "pixel_format": "yuv420p", "duration": 0.52},
        ("ALPHA_DROPPED",),
    ),
    Served(
        "HDR10",
        lambda shop: {"source": clip(shop, samples.hdr10, "hdr.mkv")},
        {"frames": 4, "codec": "hevc", "pixel_format": "yuv420p10le"},
        ("HDR_KEPT",),
    ),
    Served(
        "rotated phone video",
        lambda shop: {"source": clip(shop, samples.rotated, "phone.mp4")},
        {"frames": 4, "width": 96, "height": 128},
    ),
    Served(
        "interlaced",
        lambda shop: {"source": clip(shop, samples.interlaced, "field.mpg"), "outscale": 1},
        {"frames": 4, "width": 128, "height": 576},
        ("DEINTERLACED",),
    ),
    Served("no audio", lambda shop: {"source": clip(shop, samples.silent)}, {"frames": 4, "audio_tracks": 0}),
    Served(
        "three audio tracks",
        lambda shop: {"source": clip(shop, samples.three_tracks, "three.mp4")},
        {"frames": 4, "audio_tracks": 3},
    ),
    Served(
        "unicode file name",
        lambda shop: {"source": shop.offer(samples.video(shop.folder / "夏の 旅—été.mp4", frames=2))},
        {"filename": "夏の 旅—été_bundled_f32_96p_bauto_cnone_s42_0.08s.mp4"},
    ),
    Served(
        "unicode wish",
        lambda shop: {"source": clip(shop), "filename": "видео 🎬.mp4"},
        {"filename": "видео 🎬.mp4"},
    ),
]


@pytest.mark.parametrize("case", SERVED, ids=lambda case: case.name.replace(" ", "-"))
def test_is_served_as_it_is(shop: Inside, case: Served) -> None:
    reply = shop.upscale(**case.given(shop))
    made = shop.file(reply)
    assert case.output.items() <= reply["output"].items(), reply["output"]
    assert [warning["code"] for warning in reply["warnings"]] == list(case.codes)
    assert made.name == reply["output"]["filename"] and made.stat().st_size == reply["output"]["bytes"]
    assert shop.leftovers() == []


def test_a_dropped_download_goes_on_where_it_broke_off(shop: Inside) -> None:
    shop.web.seen.clear()
    shop.file(shop.upscale(source=dropped(shop)))
    first, second = (seen for seen in shop.web.seen if seen.path == "/dropped.mp4")
    half = (shop.folder / "dropped.mp4").stat().st_size // 2
    assert "range" not in first.headers
    assert second.headers["range"] == f"bytes={half}-"


def test_a_gif_keeps_its_delays_and_clear_pixels(shop: Inside) -> None:
    made = shop.file(shop.upscale(source=animation(shop), output_format="gif"))
    with Image.open(made) as picture:
        delays = []
        for index in range(picture.n_frames):  # type: ignore[attr-defined]
            picture.seek(index)
            delays.append(picture.info["duration"])
        alpha = picture.convert("RGBA").getchannel("A")
    assert delays == [20, 70, 330, 100]
    assert (alpha.getpixel((4, 90)), alpha.getpixel((124, 90))) == (255, 0)


def test_uneven_delays_become_times_of_a_video(shop: Inside) -> None:
    made = shop.file(shop.upscale(source=animation(shop)))
    assert times(made) == [Fraction(n, 100) for n in (0, 2, 9, 42)]


def test_hdr10_keeps_its_tags(shop: Inside) -> None:
    made = shop.file(shop.upscale(source=clip(shop, samples.hdr10, "hdr.mkv")))
    raster = probe(made, CEILINGS).raster
    assert (raster.colour.primaries, raster.colour.transfer, raster.colour.matrix) == (9, 16, 9)
    assert raster.pixel.bits == 10


def test_a_phone_s_video_is_upright_without_a_matrix(shop: Inside) -> None:
    made = shop.file(shop.upscale(source=clip(shop, samples.rotated, "phone.mp4")))
    info = probe(made, CEILINGS)
    assert (info.rotation, info.raster.width, info.raster.height) == (0, 96, 128)


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [Fraction(frame.pts) * frame.time_base for frame in container.decode(video=0)]  # type: ignore[arg-type, operator]


def test_a_job_s_id_cannot_leave_the_folder_of_results(shop: Inside) -> None:
    made = shop.file(shop.upscale(id="../../climber", source=clip(shop)))
    assert made.resolve().is_relative_to(shop.folder / "outputs")
    assert_fit(shop)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Every write to files of that name in a job's folder fails as on a full disk, by a device that does just that."""

    def fill(name: str) -> None:
        roomy = scratch_dir

        @contextmanager
        def cramped(root: Path | None) -> Iterator[Path]:
            with roomy(root) as folder:
                (folder / name).symlink_to("/dev/full")
                yield folder

        monkeypatch.setattr("engine.jobs.run.scratch_dir", cramped)

    return fill


@pytest.mark.parametrize("name", ["clip.mp4.part", "result.mp4.part"])
def test_a_full_disk_is_told(
    shop: Inside, full_disk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    full_disk(name)
    reply = shop.upscale(source=clip(shop))
    assert_refused(shop, reply, "DISK_FULL", "disk", retryable=True)
    monkeypatch.undo()
    assert_fit(shop)


def test_a_result_that_cannot_fit_is_refused_before_the_work(shop: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    samples.video(shop.root / "clip.mp4", frames=4)
    with monkeypatch.context() as patch:
        patch.setattr("engine.jobs.scratch.shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
        reply = shop.upscale(source="clip.mp4", destination="inline")
    assert_refused(shop, reply, "DISK_FULL", "disk has 0 MB left", retryable=True)
    assert {report["stage"] for report in shop.worker.reports} == {"preflight", "download", "probe"}
    assert_fit(shop)


def test_a_refused_upload_is_told(shop: Inside) -> None:
    put = shop.web.script("/refused", answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"))
    reply = shop.upscale(source=clip(shop), destination={"put_url": f"{put}?X-Amz-Signature=deadbeef"})
    assert_refused(shop, reply, "UPLOAD_FAILED", "answered 403 SignatureDoesNotMatch", retryable=True)
    assert reply["stage"] == "upload"
    assert "deadbeef" not in json.dumps(reply)
    assert_fit(shop)


def test_an_upload_that_drops_twice_arrives(shop: Inside) -> None:
    put = shop.web.script("/drops", drop(100), drop(100), answer(200))
    reply = shop.upscale(source=clip(shop), destination={"put_url": f"{put}?X-Amz-Signature=deadbeef"})
    assert reply["status"] == "completed", reply
    last = [seen for seen in shop.web.seen if seen.path.startswith("/drops")][-1]
    assert len(last.body) == reply["output"]["bytes"]
    assert reply["output"]["url"] == put
    assert "deadbeef" not in json.dumps(reply)
    assert_fit(shop)
