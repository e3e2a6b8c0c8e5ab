"""The worker's log: facts with units, every line with the job it belongs to.

On the platform a line is one JSON object, as the SDK's own are; on a terminal it is plain text.
"""

import json
import logging
import sys

from engine.settings import Settings


class JobId(logging.Filter):
    """Adds the current job's id to each record. One job runs at a time, so one value serves all its threads."""

    def __init__(self) -> None:
        super().__init__()
        self.current: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        record.job_id = self.current
        return True


class JsonLine(logging.Formatter):
    """`{"requestId", "message", "level"}` and, of an exception, its traceback; never over several lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"requestId": getattr(record, "job_id", None), "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


current_job = JobId()


def configure(settings: Settings) -> None:
    """Take over the root logger, whoever configured it before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(current_job)
    handler.setFormatter(logging.Formatter("%(levelname)-7s %(message)s") if settings.local else JsonLine())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for chatty in ("botocore", "boto3", "s3transfer", "urllib3", "google", "asyncio", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
