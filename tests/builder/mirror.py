"""Made-up models for baking: what they are made of, their catalog, and servers that publish them."""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.storage.servers import Handler, Seen, Server, file

REPO = "maker/models"
COMMIT = "c0ffee" + "0" * 34
SIZE = 300_000
FILES = {  # which begin as a pickle does
    key: b"\x80" + random.Random(key).randbytes(SIZE - 1)
    for key in ("a.pth", "b.pth", "deep/both.pth", "extra.safetensors")
}
MODELS = {"alpha": ("a.pth", "deep/both.pth"), "beta": ("b.pth", "deep/both.pth")}
HERE = ""  # of a source: files without an address, which only a mirror has


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def catalog(path: Path, source: str, **changed: Mapping[str, object]) -> Path:
    """A catalog of `MODELS` and a LoRA, published at `source` (lines of TOML).

    changed: what the catalog says otherwise of a file, by the letters of its name before the dot.
    """
    lines = [f'[source.test]\nlicence = "MIT"\n{source}\n']
    for key, content in FILES.items():
        facts: dict[str, object] = {"bytes": len(content), "sha256": sha256(content)}
        facts |= changed.get(Path(key).stem, {})
        lines.append(f'[file."{key}"]\nsource = "test"\nrole = "network"')
        lines += [f"{name} = {json.dumps(value)}" for name, value in facts.items() if value is not None]
    for name, keys in MODELS.items():
        lines.append(f'[[model]]\nname = "{name}"\nfamily = "esrgan"\ntasks = ["upscale"]\ndescription = "Made up"')
        lines.append(f'parameters = 10\nprecision = "F32"\nfiles = {json.dumps(keys)}')
    lines.append('[[lora]]\nname = "extra"\nfile = "extra.safetensors"\nfor = ["t2v-14b"]\ndescription = "Made up"')
    path.write_text("\n".join(lines))
    return path


def publish(server: Server, files: Mapping[str, bytes] = FILES) -> Server:
    """Serve files under their keys, with Range."""
    for key, content in files.items():
        server.script(f"/{key}", file(content, ETag=f'"{sha256(content)[:8]}"'))
    return server


def asked(server: Server, word: str) -> list[Seen]:
    """The requests whose method and path hold a word."""
    return [seen for seen in server.seen if word in f"{seen.method} {seen.path}"]


@dataclass
class HubServer(Server):
    """As much of Hugging Face as a bake asks for: a repository at a commit, with a branch, large files elsewhere."""

    token: str | None = None
    commit: str = COMMIT
    files: dict[str, bytes] = field(default_factory=lambda: {Path(key).name: FILES[key] for key in FILES})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.RequestHandlerClass = HubHandler

    __hash__ = Server.__hash__


class HubHandler(Handler):
    """Answers as huggingface.co did when asked by hand: large files by a redirect to another host, with their facts."""

    server: HubServer

    def _answer(self, seen: Seen) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/cdn/"):
            return file(self.server.files[path.removeprefix("/cdn/")])(self, seen)
        if self.server.token and seen.headers.get("authorization") != f"Bearer {self.server.token}":
            return self.reply(401, X_Error_Code="GatedRepo", X_Error_Message="Access to this model is restricted")
        if path == f"/api/models/{REPO}/revision/main":
            told = {
                "id": REPO,
                "modelId": REPO,
                "sha": self.server.commit,
                "siblings": [],
                "tags": [],
                "private": False,
            }
            return self.reply(200, json.dumps(told).encode(), Content_Type="application/json")
        wanted = path.removeprefix(f"/{REPO}/resolve/{self.server.commit}/")
        content = self.server.files.get(wanted)
        if content is None:
            return self.reply(404, X_Error_Code="EntryNotFound")
        facts = {"X_Repo_Commit": self.server.commit, "X_Linked_Size": str(len(content))}
        facts |= {"X_Linked_ETag": f'"{sha256(content)}"'}
        elsewhere = f"http://localhost:{self.server.server_port}/cdn/{wanted}"
        return self.reply(302, Location=elsewhere, **facts)
