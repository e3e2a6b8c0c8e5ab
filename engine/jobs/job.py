"""One job under way: what its stages hand to one another."""

from dataclasses import dataclass
from pathlib import Path

from engine.jobs.cancel import CancelToken
from engine.jobs.clock import Clock
from engine.jobs.desk import Desk
from engine.jobs.progress import Progress


@dataclass(frozen=True, slots=True)
class Job:
    """Who works for it, what may stop it, who is told, and the folder of its files."""

    id: str
    desk: Desk
    token: CancelToken
    progress: Progress
    clock: Clock
    scratch: Path
