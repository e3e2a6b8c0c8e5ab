"""A worker inside the test's own process: `handle` is called as the SDK calls it, so a reply is the platform's."""

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch

from engine.jobs.cancel import CancelToken
from engine.jobs.progress import Report, Sink
from engine.settings import Settings
from engine.storage.addresses import resolve
from engine.storage.deliver import Deliverer
from engine.storage.fetch import Fetcher
from engine.storage.patience import Patience
from engine.worker import Worker
from tests.media import samples
from tests.storage.servers import Server, file, serving

Reply = dict[str, Any]
INWARD = "innocent.example"  # a name of the outside world whose owner has it point at this machine


class Recorded(Worker):
    """A worker whose reports stay in a list instead of going to a terminal or to the platform."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.reports: list[Report] = []
        self.on_report: Callable[[Report], None] = lambda report: None

    def _sink(self, job: dict[str, Any], token: CancelToken, loop: asyncio.AbstractEventLoop, stack: ExitStack) -> Sink:
        def note(report: Report) -> None:
            self.reports.append(report)
            self.on_report(report)

        return note


@dataclass
class Inside:
    """One worker, one web server that it may talk to, and folders of the test's own."""

    folder: Path
    web: Server
    worker: Recorded

    @property
    def root(self) -> Path:
        """The volume: the only folder that jobs may name."""
        return self.folder / "volume"

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def run(self, job: dict[str, Any]) -> Reply:
        """The reply to a job as the platform delivers it, after a look at whether it could be sent."""
        self.worker.reports.clear()
        reply = asyncio.run(self.worker.handle(job))
        assert strict_json(reply) == reply
        return reply

    def ask(self, id: str = "job-1", **fields: Any) -> Reply:
        """The reply to these fields."""
        return self.run({"id": id, "input": fields})

    def upscale(self, id: str = "job-1", **fields: Any) -> Reply:
        """The same, quick to encode unless told otherwise."""
        return self.ask(id, **{"preset": "ultrafast", **fields})

    def offer(self, path: Path) -> str:
        """The URL of a file on the web server."""
        return self.web.script(f"/{path.name}", file(path.read_bytes()))

    def file(self, reply: Reply) -> Path:
        """The result as a file, wherever the reply says that it is."""
        assert reply.get("status") == "completed", reply
        output = reply["output"]
        if "base64" not in output:
            return Path(unquote(urlsplit(output["url"]).path))
        path = self.folder / str(output["filename"])
        path.write_bytes(base64.b64decode(output["base64"]))
        return path

    def leftovers(self) -> list[str]:
        """What jobs left in the scratch folder."""
        return sorted(path.name for path in self.scratch.iterdir()) if self.scratch.exists() else []


@contextmanager
def inside(folder: Path, **settings: Any) -> Iterator[Inside]:
    """A worker that never waits between tries, in local mode unless `runpod_webhook_get_job` is set."""
    with serving(Server()) as web, one_thread():
        (folder / "volume").mkdir()
        given = {
            "local_roots": (folder / "volume",),
            "output_dir": folder / "outputs",
            "scratch_dir": folder / "scratch",
            "device": "cpu",
            **settings,
            "allowed_hosts": frozenset({web.host, *settings.get("allowed_hosts", ())}),
        }
        worker = Recorded(Settings(**given))
        hurried = Patience(tries=3, sleep=lambda seconds: None)
        worker.desk.fetcher = Fetcher(worker.desk.settings, resolve=look_up, patience=hurried)
        worker.desk.deliverer = Deliverer(worker.desk.settings, resolve=look_up, patience=hurried)
        yield Inside(folder, web, worker)


@contextmanager
def one_thread() -> Iterator[None]:
    """Frames as small as the tests' gain nothing from a second thread and lose much to waiting for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def look_up(host: str, port: int) -> list[str]:
    """The system's resolver, plus one name whose owner means ill."""
    return ["127.0.0.1"] if host == INWARD else resolve(host, port)


def strict_json(value: Any) -> Any:
    """`value` through JSON that knows neither NaN nor anything that is not JSON's."""
    return json.loads(json.dumps(value, allow_nan=False))


def tiny(folder: Path) -> dict[str, str]:
    """The smallest good source: a picture inside the request."""
    path = samples.still(folder / "tiny.png", (8, 8))
    return {"source_base64": base64.b64encode(path.read_bytes()).decode(), "destination": "inline"}
