"""Moto's S3 behind a relay that writes every request down and fails where the test says so."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from tests.storage.servers import Handler, Seen, Server, serving


@dataclass
class S3Server(Server):
    """Passes requests on to the server `behind` it, so that they are seen and can be made to fail."""

    behind: tuple[str, int] = ("", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.RequestHandlerClass = Relay

    __hash__ = Server.__hash__

    def asked(self, word: str) -> list[Seen]:
        return [seen for seen in self.seen if word in f"{seen.method} {seen.path}"]


class Relay(Handler):
    server: S3Server

    def _answer(self, seen: Seen) -> None:
        self._pass_on(self.body(seen))

    def _pass_on(self, body: bytes) -> None:
        further = http.client.HTTPConnection(*self.server.behind)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "connection")}
        further.request(self.command, self.path, body, headers)
        answer = further.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        further.close()


@contextmanager
def s3_serving(bucket: str) -> Iterator[S3Server]:
    """An S3 with one empty bucket."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        with serving(S3Server(behind=(host, port))) as server:
            assert isinstance(server, S3Server)
            owner(server).create_bucket(Bucket=bucket)
            yield server
    finally:
        moto.stop()


@cache
def owner(server: S3Server) -> Any:
    """The bucket owner's own client, to look at what lies there."""
    endpoint = f"http://{server.behind[0]}:{server.behind[1]}"
    return boto3.client("s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id="o", aws_secret_access_key="o")


def contents(server: S3Server, bucket: str) -> dict[str, dict[str, Any]]:
    """Every object of a bucket: body, type and disposition by key."""
    client = owner(server)
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key) for key in keys}


def unfinished(server: S3Server, bucket: str) -> list[Any]:
    """Multipart uploads that nobody completed or aborted."""
    return list(owner(server).list_multipart_uploads(Bucket=bucket).get("Uploads", []))
