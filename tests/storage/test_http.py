"""Sources over http against a server that misbehaves on purpose."""

import errno
import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from engine.errors import (
    Cancelled,
    DiskFull,
    InvalidInput,
    JobError,
    SourceBlocked,
    SourceForbidden,
    SourceNotFound,
    SourceTooLarge,
    SourceUnreachable,
)
from engine.settings import Settings
from engine.storage.fetch import Fetcher
from engine.storage.patience import Patience
from tests.storage.servers import Handler, Seen, Server, answer, drop, file

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def fetcher(settings: Settings, patience: Patience) -> Fetcher:
    return Fetcher(settings, patience=patience)


def test_a_file_arrives_whole_under_its_own_name(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    web.script("/видео/клип один.mp4", file(CONTENT))
    steps: list[tuple[int, int | None]] = []
    url = web.url("/%D0%B2%D0%B8%D0%B4%D0%B5%D0%BE/%D0%BA%D0%BB%D0%B8%D0%BF%20%D0%BE%D0%B4%D0%B8%D0%BD.mp4?sig=secret")
    got = fetcher.fetch(url, scratch, progress=lambda done, total: steps.append((done, total)))
    assert (got.name, got.bytes) == ("клип один.mp4", len(CONTENT))
    assert got.path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in scratch.iterdir()] == ["клип один.mp4"]


def test_an_html_page_called_mp4_is_passed_on_for_media_to_refuse(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    url = web.script("/clip.mp4", answer(200, b"<html>log in</html>", Content_Type="text/html"))
    assert fetcher.fetch(url, scratch).path.read_bytes() == b"<html>log in</html>"


@pytest.mark.parametrize(
    "version", [{"ETag": '"v1"'}, {"Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, {"ETag": 'W/"weak"'}]
)
def test_a_connection_dropped_half_way_is_resumed(
    fetcher: Fetcher, web: Server, scratch: Path, version: dict[str, str]
) -> None:
    url = web.script("/c.mp4", file(CONTENT, stop_at=1_500_000, **version), file(CONTENT, **version))
    assert fetcher.fetch(url, scratch).path.read_bytes() == CONTENT
    first, second = web.seen
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=1500000-"
    strong = [value for value in version.values() if not value.startswith("W/")]
    assert second.headers.get("if-range") == (strong[0] if strong else None)


def test_a_line_that_drops_every_megabyte_is_slow_not_dead(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    content = CONTENT * 4
    url = web.script("/c.mp4", file(content, stop_at=1_300_000, ETag='"v1"'))
    assert fetcher.fetch(url, scratch).path.read_bytes() == content
    assert len(web.seen) == 10


def test_a_body_that_stays_shorter_than_announced_is_refused(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    url = web.script("/c.mp4", file(b"x" * 1000, stop_at=100, ranges=False))
    with pytest.raises(SourceUnreachable, match="dropped the connection"):
        fetcher.fetch(url, scratch)
    assert len(web.seen) == 5
    assert not list(scratch.iterdir())


def test_a_server_without_ranges_starts_over(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    url = web.script("/c.mp4", file(CONTENT, stop_at=1_500_000), file(CONTENT, ranges=False))
    assert fetcher.fetch(url, scratch).path.read_bytes() == CONTENT
    assert web.seen[1].headers["range"] == "bytes=1500000-"


def test_a_file_replaced_in_the_middle_is_not_glued_together(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    other = os.urandom(2_000_000)
    url = web.script("/c.mp4", file(CONTENT, stop_at=1_500_000, ETag='"v1"'), file(other, ETag='"v2"'))
    assert fetcher.fetch(url, scratch).path.read_bytes() == other


def test_a_wrong_content_range_starts_over(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    wrong = answer(206, CONTENT[:100], Content_Range=f"bytes 0-99/{len(CONTENT)}")
    url = web.script("/c.mp4", file(CONTENT, stop_at=1_500_000), wrong, file(CONTENT))
    assert fetcher.fetch(url, scratch).path.read_bytes() == CONTENT
    assert "range" not in web.seen[2].headers


def test_a_range_that_is_gone_starts_over(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    url = web.script("/c.mp4", file(CONTENT, stop_at=1_500_000), answer(416), file(CONTENT))
    assert fetcher.fetch(url, scratch).path.read_bytes() == CONTENT


def test_a_chunked_body_is_read_and_its_break_noticed(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    def chunked(end: bytes) -> "object":
        def respond(handler: Handler, seen: Seen) -> None:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"5\r\nhello\r\n" + end)
            handler.hang_up()

        return respond

    url = web.script("/c", chunked(b"5\r\nwo"), chunked(b"0\r\n\r\n"))  # type: ignore[arg-type]
    assert fetcher.fetch(url, scratch).path.read_bytes() == b"hello"
    assert len(web.seen) == 2


def test_a_body_compressed_unasked_is_decoded_and_never_resumed(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    packed = gzip.compress(CONTENT)
    url = web.script(
        "/c",
        file(packed, stop_at=1_500_000, Content_Encoding="gzip"),
        file(packed, Content_Encoding="gzip"),
    )
    assert fetcher.fetch(url, scratch).path.read_bytes() == CONTENT
    assert all("range" not in seen.headers for seen in web.seen)


@pytest.mark.parametrize(
    ("status", "error", "asked"),
    [
        (404, SourceNotFound, 1),
        (410, SourceNotFound, 1),
        (401, SourceForbidden, 1),
        (403, SourceForbidden, 1),
        (400, SourceUnreachable, 1),
        (204, SourceUnreachable, 1),
        (500, SourceUnreachable, 5),
        (429, SourceUnreachable, 5),
    ],
)
def test_each_status_has_its_code(
    fetcher: Fetcher, web: Server, scratch: Path, status: int, error: type[JobError], asked: int
) -> None:
    url = web.script("/c.mp4", answer(status))
    with pytest.raises(error) as caught:
        fetcher.fetch(f"{url}?X-Amz-Signature=secret", scratch)
    assert "secret" not in caught.value.message
    assert len(web.seen) == asked
    assert not list(scratch.iterdir())


def test_a_busy_server_is_given_the_time_it_asks_for(
    fetcher: Fetcher, web: Server, scratch: Path, naps: list[float]
) -> None:
    url = web.script("/c.mp4", answer(503, Retry_After="9"), answer(429, Retry_After="3"), file(CONTENT))
    assert fetcher.fetch(url, scratch).bytes == len(CONTENT)
    assert sum(naps) == pytest.approx(12)


def test_a_refused_connection_is_tried_again_and_then_unreachable(
    settings: Settings, patience: Patience, scratch: Path, naps: list[float]
) -> None:
    free = Server()
    free.server_close()
    opened = settings.model_copy(update={"allowed_hosts": frozenset({free.host})})
    with pytest.raises(SourceUnreachable):
        Fetcher(opened, patience=patience).fetch(free.url("/c.mp4"), scratch)
    assert sum(naps) == pytest.approx(7.5)


def test_hung_up_connections_are_tried_again(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    url = web.script("/c.mp4", drop(), drop(), file(CONTENT))
    assert fetcher.fetch(url, scratch).bytes == len(CONTENT)


def test_redirects_are_followed_five_times(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    for step in range(6):
        web.script(f"/{step}", answer(302, Location=f"/{step + 1}"))
    web.script("/5", file(CONTENT))
    assert fetcher.fetch(web.url("/0"), scratch).bytes == len(CONTENT)
    web.script("/5", answer(302, Location="/6"))
    with pytest.raises(SourceUnreachable, match="redirects more than 5"):
        fetcher.fetch(web.url("/0"), scratch)


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/",
        "http://localhost:1/x",
        "file:///etc/passwd",
        "ftp://example.org/x",
    ],
)
def test_a_redirect_inside_is_blocked(fetcher: Fetcher, web: Server, scratch: Path, target: str) -> None:
    url = web.script("/c.mp4", answer(302, Location=target))
    with pytest.raises(SourceBlocked) as caught:
        fetcher.fetch(url, scratch)
    assert caught.value.field == "source"
    assert len(web.seen) == 1
    assert not list(scratch.iterdir())


def test_a_name_that_resolves_to_this_machine_is_blocked(settings: Settings, web: Server, scratch: Path) -> None:
    fetcher = Fetcher(settings, resolve=lambda host, port: ["127.0.0.1"])
    with pytest.raises(SourceBlocked):
        fetcher.fetch(f"http://innocent.example:{web.server_port}/c.mp4", scratch)
    with pytest.raises(SourceBlocked):
        Fetcher(settings).fetch(f"http://localhost:{web.server_port}/c.mp4", scratch)
    assert web.seen == []


def test_the_address_that_was_looked_at_is_the_one_that_is_dialled(
    settings: Settings, web: Server, scratch: Path
) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    opened = settings.model_copy(update={"allowed_hosts": frozenset({"media.example"})})
    web.script("/c.mp4", file(CONTENT))
    fetcher = Fetcher(opened, resolve=lambda host, port: next(answers))
    assert fetcher.fetch(f"http://media.example:{web.server_port}/c.mp4", scratch).bytes == len(CONTENT)
    assert next(answers) == ["10.0.0.1"]
    assert web.seen[0].headers["host"] == f"media.example:{web.server_port}"


def test_a_name_that_cannot_be_resolved_is_unreachable(settings: Settings, patience: Patience, scratch: Path) -> None:
    fetcher = Fetcher(settings, resolve=lambda host, port: [], patience=patience)
    with pytest.raises(SourceUnreachable):
        fetcher.fetch("https://nowhere.example/c.mp4", scratch)


def test_proxies_of_the_environment_are_not_used(
    fetcher: Fetcher, web: Server, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    url = web.script("/c.mp4", file(CONTENT))
    assert fetcher.fetch(url, scratch).bytes == len(CONTENT)


def test_user_and_password_are_sent_but_never_told(
    fetcher: Fetcher, web: Server, scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    web.script("/c.mp4", answer(403))
    with pytest.raises(SourceForbidden) as caught:
        fetcher.fetch(f"http://user:hunter2@{web.host}/c.mp4", scratch)
    assert web.seen[0].headers["authorization"].startswith("Basic ")
    assert "hunter2" not in caught.value.message + caplog.text


def test_a_file_announced_as_too_large_is_not_begun(
    settings: Settings, patience: Patience, web: Server, scratch: Path
) -> None:
    small = settings.model_copy(update={"max_input_bytes": 2_000_000})
    url = web.script("/c.mp4", file(CONTENT))
    with pytest.raises(SourceTooLarge, match="2,000,000"):
        Fetcher(small, patience=patience).fetch(url, scratch)
    assert not list(scratch.iterdir())


def test_a_file_that_grows_too_large_unannounced_is_stopped(settings: Settings, web: Server, scratch: Path) -> None:
    small = settings.model_copy(update={"max_input_bytes": 2_000_000})

    def endless(handler: Handler, seen: Seen) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.hang_up()
        while True:
            handler.wfile.write(b"x" * 65536)

    url = web.script("/c.mp4", endless)
    with pytest.raises(SourceTooLarge):
        Fetcher(small).fetch(url, scratch)
    assert not list(scratch.iterdir())


def test_a_file_larger_than_the_disk_is_not_begun(settings: Settings, web: Server, scratch: Path) -> None:
    vast = settings.model_copy(update={"max_input_bytes": 10**18})
    url = web.script("/c.mp4", answer(200, b"x", Content_Length=str(10**17)))
    with pytest.raises(DiskFull):
        Fetcher(vast).fetch(url, scratch)
    assert not list(scratch.iterdir())


def test_a_disk_that_runs_full_is_named_and_left_clean(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    url = web.script("/c.mp4", file(CONTENT))
    (scratch / "c.mp4.part").symlink_to("/dev/full")  # a real device that fails every write with ENOSPC
    with pytest.raises(DiskFull) as caught:
        fetcher.fetch(url, scratch)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert not list(scratch.iterdir())


def test_a_cancelled_download_stops_within_a_piece_and_leaves_nothing(
    fetcher: Fetcher, web: Server, scratch: Path
) -> None:
    url = web.script("/c.mp4", file(CONTENT))
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 4:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        fetcher.fetch(url, scratch, check=check)
    assert len(asked) == 5
    assert not list(scratch.iterdir())


def test_a_large_download_needs_little_memory(fetcher: Fetcher, web: Server, scratch: Path) -> None:
    piece = b"x" * 65536

    def long(handler: Handler, seen: Seen) -> None:
        handler.reply(200, Content_Length=str(len(piece) * 640))
        for _ in range(640):
            handler.wfile.write(piece)

    url = web.script("/c.mp4", long)
    tracemalloc.start()
    try:
        assert fetcher.fetch(url, scratch).bytes == 41_943_040
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "address", ["ftp://example.org/a.mp4", "gopher://x/y", "http://", "https://a b/c", "http://[::1"]
)
def test_addresses_of_other_kinds_are_invalid(fetcher: Fetcher, scratch: Path, address: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fetcher.fetch(address, scratch)
    assert caught.value.field == "source"


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-5", "many"])
def test_a_length_that_is_no_number_is_no_length(fetcher: Fetcher, web: Server, scratch: Path, length: str) -> None:
    def respond(handler: Handler, seen: Seen) -> None:
        handler.reply(200, b"content", Content_Length=length)
        handler.hang_up()

    assert fetcher.fetch(web.script("/a.mp4", respond), scratch).bytes == 7
