"""Real HTTP servers on 127.0.0.1 whose every answer is scripted and whose every request is written down."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Seen:
    """One request as it came in; `body` is what arrived of it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class Handler(BaseHTTPRequestHandler):
    """Answers a request by the first of the server's faults that it meets, each of which is used up, else by `_answer`.

    Here that is the next responder scripted for its path; the last one stays for all further requests.
    """

    protocol_version = "HTTP/1.1"
    server: "Server"

    def _any(self) -> None:
        seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.server.seen.append(seen)
        for fault in self.server.faults:
            if fault[0] in f"{self.command} {self.path}":
                self.server.faults.remove(fault)
                return fault[1](self, seen)
        return self._answer(seen)

    def _answer(self, seen: Seen) -> None:
        script = self.server.scripts.get(unquote(urlsplit(self.path).path), [answer(404)])
        responder = script.pop(0) if len(script) > 1 else script[0]
        responder(self, seen)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815 (the base class names them so)

    def log_message(self, *_: object) -> None:
        pass

    def body(self, seen: Seen, size: int | None = None) -> bytes:
        wanted = int(self.headers.get("Content-Length", 0)) if size is None else size
        seen.body = self.rfile.read(wanted)
        return seen.body

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True


Responder = Callable[[Handler, Seen], None]


@dataclass
class Server(ThreadingHTTPServer):
    """`faults` are answered before all else, each by the first request whose method and path hold its word."""

    scripts: dict[str, list[Responder]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    faults: list[tuple[str, Responder]] = field(default_factory=list)
    daemon_threads = True
    block_on_close = False

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def script(self, path: str, *responders: Responder) -> str:
        """Answer requests for a path by these, one after the other; returns the URL."""
        self.scripts[path] = list(responders)
        return self.url(path)

    def __hash__(self) -> int:
        return id(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the game."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(status: int, body: bytes = b"", **headers: str) -> Responder:
    def respond(handler: Handler, seen: Seen) -> None:
        handler.body(seen)
        handler.reply(status, body, **headers)

    return respond


def file(content: bytes, *, stop_at: int | None = None, ranges: bool = True, **headers: str) -> Responder:
    """A file as a good server gives it; with `stop_at` the line breaks when so many bytes of this answer are sent."""

    def respond(handler: Handler, seen: Seen) -> None:
        start = 0
        asked = seen.headers.get("range", "")
        current = seen.headers.get("if-range") in (None, headers.get("ETag"), headers.get("Last_Modified"))
        extra = dict(headers)
        if ranges and asked and current:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            extra["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        body = rest[:stop_at]
        handler.reply(206 if "Content_Range" in extra else 200, body, Content_Length=str(len(rest)), **extra)
        if len(body) < len(rest):
            handler.wfile.flush()
            handler.hang_up()

    return respond


def drop(after: int = 0) -> Responder:
    """Take so many bytes of the request's body, then hang up without a word."""

    def respond(handler: Handler, seen: Seen) -> None:
        handler.body(seen, after)
        handler.hang_up()

    return respond
