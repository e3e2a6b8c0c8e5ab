"""Hugging Face: which commit a branch is at, what a file there is like, and as whom we ask.

All that comes from huggingface_hub; the bytes do not. `hf_hub_download` keeps files, locks and half-done downloads in
a layout of its own, resumes nothing that came through xet, and gives no digest, where every other source here arrives
through one `.part` that survives a kill and is weighed while it comes. What we forgo is xet's several connections for
one file; several files at once fill an ordinary line as well.
"""

import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from builder.bake.errors import BakeError, shown
from engine.catalog import File
from engine.errors import JobError, SourceForbidden, SourceNotFound
from engine.storage.hooks import unchecked
from engine.storage.http import refusal
from engine.storage.patience import Patience, Transient

T = TypeVar("T")
SECRET = Path("/run/secrets/HF_TOKEN")  # where a build's `--mount=type=secret,id=HF_TOKEN` lies


@dataclass(frozen=True, slots=True)
class Found:
    """A file as the Hub describes it; the digest is known of large files only."""

    commit: str
    bytes: int | None
    sha256: str | None


def token_of(environment: Mapping[str, str], secret: Path = SECRET) -> str | None:
    """The token that the environment or a build's secret gives. Raises BakeError for what can be none."""
    given = environment.get("HF_TOKEN", "").strip()
    with suppress(OSError):
        given = given or secret.read_text("utf-8", errors="replace").strip()
    if not re.fullmatch("[!-~]*", given):
        raise BakeError("HF_TOKEN is no token: it has spaces, line breaks or letters beyond ASCII in it; copy it again")
    return given or None


class Hub:
    """The Hub, asked as the bearer of a token or as anybody."""

    def __init__(self, token: str | None, patience: Patience) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        self._token, self._patience = token, patience
        self._commits: dict[tuple[str, str], str] = {}
        self._asking = threading.Lock()

    @property
    def credentials(self) -> dict[str, str]:
        """The header that shows the token."""
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def ask(self, file: File) -> Found:
        """A file at its commit, or at the one that its branch is at now. Raises BakeError."""
        from huggingface_hub import get_hf_file_metadata

        commit = self._commit(file)
        url = self.url(file, commit)
        told = self._asked(file, commit, lambda: get_hf_file_metadata(url, token=self._token or False))
        digest = told.etag if told.etag and re.fullmatch("[0-9a-f]{64}", told.etag) else None
        return Found(commit, told.size, digest)

    def url(self, file: File, commit: str) -> str:
        """Where the file is downloaded from."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(str(file.source.repo), file.path, revision=commit)

    def page(self, file: File) -> str:
        """The repository's page, for a person."""
        from huggingface_hub.constants import ENDPOINT

        return f"{shown(ENDPOINT)}/{file.source.repo}"

    def place(self, file: File, commit: str | None) -> str:
        """The file's place in words."""
        return f"{file.source.repo}@{commit or file.source.revision}/{file.path}"

    def when_refused(self, file: File) -> str:
        """What to do about a 401 or 403."""
        token = "the token in HF_TOKEN does not open it" if self._token else "no HF_TOKEN is set"
        return (
            f"{token}: give HF_TOKEN a token that may read it, and accept the licence on {self.page(file)} "
            "(a repository that is gone is refused in the same way)"
        )

    def _commit(self, file: File) -> str:
        from huggingface_hub import HfApi

        repo, revision = str(file.source.repo), str(file.source.revision)
        if not file.source.branch:
            return revision
        with self._asking:  # one question for all files of a repository, so that all are of one commit
            if (repo, revision) not in self._commits:
                api = HfApi(token=self._token or False)
                told = self._asked(file, revision, lambda: api.model_info(repo, revision=revision))
                self._commits[repo, revision] = str(told.sha)
            return self._commits[repo, revision]

    def _asked(self, file: File, commit: str, question: Callable[[], T]) -> T:
        place = self.place(file, commit)
        try:
            return self._patience.persist(lambda: _answer(question), unchecked)
        except SourceForbidden as error:
            raise BakeError(f"{file.key}: {place} is refused; {self.when_refused(file)}") from error
        except SourceNotFound as error:
            raise BakeError(
                f"{file.key}: there is no {place}; it was moved or renamed; see {self.page(file)}"
            ) from error
        except (JobError, Transient) as error:
            raise BakeError(f"{file.key}: {place}: {error}; try again later, or name a mirror by --from") from error


def _answer(question: Callable[[], T]) -> T:
    """Sort huggingface_hub's errors into what may be tried again and what may not."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    try:
        return question()
    except HfHubHTTPError as error:
        raise refusal(error.response.status_code, "Hugging Face") from error
    except (HTTPError, OSError) as error:
        raise Transient("Hugging Face could not be reached, or dropped the connection") from error
