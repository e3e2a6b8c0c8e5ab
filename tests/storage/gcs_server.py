"""A small Google Cloud Storage over real HTTP: as much of its JSON API as the worker speaks, and signed GETs."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from email import message_from_bytes
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

from tests.storage.servers import Handler, Seen, Server

OBJECT = re.compile(r"/(download/)?storage/v1/b/([^/]+)/o/(.+)")
UPLOAD = re.compile(r"/upload/storage/v1/b/([^/]+)/o")
PLAIN = re.compile(r"/([^/]+)/(.+)")


@dataclass
class Stored:
    body: bytes
    content_type: str
    generation: int


@dataclass
class Session:
    """A resumable upload under way."""

    bucket: str
    key: str
    content_type: str
    body: bytearray = field(default_factory=bytearray)


@dataclass
class GcsServer(Server):
    """A small Google Cloud Storage: buckets, media downloads, resumable uploads, and a token to demand."""

    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    token: str | None = None  # what requests must bear, where set
    numbers: "count[int]" = field(default_factory=lambda: count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.RequestHandlerClass = GcsHandler

    __hash__ = Server.__hash__

    def store(self, bucket: str, key: str, body: bytes, content_type: str) -> dict[str, str]:
        stored = Stored(body, content_type, next(self.numbers))
        self.buckets[bucket][key] = stored
        return described(bucket, key, stored)


class GcsHandler(Handler):
    server: GcsServer

    def _answer(self, seen: Seen) -> None:
        self._route(seen)

    def _route(self, seen: Seen) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        body = self.body(seen)
        if path == "/token":
            return self._json({"access_token": self.server.token, "expires_in": 3600, "token_type": "Bearer"})
        signed = "X-Goog-Signature" in query
        if self.server.token and not signed and seen.headers.get("authorization") != f"Bearer {self.server.token}":
            return self._error(401)
        if match := UPLOAD.fullmatch(path):
            return self._upload(match[1], query, seen, body)
        if match := OBJECT.fullmatch(path):
            return self._object(match[2], unquote(match[3]), bool(match[1]), seen)
        if match := PLAIN.fullmatch(path):
            return self._object(match[1], unquote(match[2]), True, seen)
        return self._error(404)

    def _object(self, bucket: str, key: str, media: bool, seen: Seen) -> None:
        stored = self.server.buckets.get(bucket, {}).get(key)
        if stored is None:
            return self._error(404)
        if not media:
            return self._json(described(bucket, key, stored))
        start = int(seen.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        size, rest = len(stored.body), stored.body[start:]
        extra = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        return self.reply(
            206 if start else 200,
            rest,
            Content_Type=stored.content_type,
            X_Goog_Hash=f"crc32c={checksum(stored.body)}",
            X_Goog_Generation=str(stored.generation),
            **extra,
        )

    def _upload(self, bucket: str, query: dict[str, list[str]], seen: Seen, body: bytes) -> None:
        if bucket not in self.server.buckets:
            return self._error(404)
        if "upload_id" in query:
            return self._resume(query["upload_id"][0], seen, body)
        if query["uploadType"] == ["resumable"]:
            name = query.get("name") or [json.loads(body)["name"]]
            kind = seen.headers.get("x-upload-content-type", "")
            number = str(next(self.server.numbers))
            self.server.sessions[number] = Session(bucket, name[0], kind)
            place = self.server.url(f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={number}")
            return self.reply(200, Location=place)
        head, data = parts_of(seen, body)
        return self._json(self.server.store(bucket, json.loads(head[1])["name"], data[1], data[0]))

    def _resume(self, number: str, seen: Seen, body: bytes) -> None:
        if self.command == "DELETE":
            self.server.sessions.pop(number)
            return self.reply(499)
        session = self.server.sessions[number]
        first, total = re.fullmatch(r"bytes (\d+|\*)(?:-\d+)?/(\d+)", seen.headers["content-range"]).groups()  # type: ignore[union-attr]
        if first != "*":
            assert int(first) == len(session.body)
            session.body += body
        if len(session.body) < int(total):
            return self.reply(308, Range=f"bytes=0-{len(session.body) - 1}")
        self.server.sessions.pop(number)
        stored = self.server.store(session.bucket, session.key, bytes(session.body), session.content_type)
        return self._json(stored)

    def _json(self, value: dict[str, object] | dict[str, str]) -> None:
        self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def _error(self, status: int) -> None:
        body = {"error": {"code": status, "message": "scripted"}}
        self.reply(status, json.dumps(body).encode(), Content_Type="application/json")


def described(bucket: str, key: str, stored: Stored) -> dict[str, str]:
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": key,
        "generation": str(stored.generation),
        "size": str(len(stored.body)),
        "contentType": stored.content_type,
        "crc32c": checksum(stored.body),
        "md5Hash": base64.b64encode(hashlib.md5(stored.body).digest()).decode(),
    }


def checksum(body: bytes) -> str:
    return base64.b64encode(google_crc32c.value(body).to_bytes(4, "big")).decode()


def parts_of(seen: Seen, body: bytes) -> list[tuple[str, bytes]]:
    """Content type and bytes of each part of a multipart/related upload."""
    boundary = re.search(rb'boundary="?([^";]+)', seen.headers["content-type"].encode())
    assert boundary
    parts = body.split(b"--" + boundary[1])[1:-1]
    found = []
    for part in parts:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        found.append((message_from_bytes(head + b"\r\n\r\n").get_content_type(), content.removesuffix(b"\r\n")))
    return found
