"""RunPod's entry point.

python handler.py                          one job from test_input.json, on this machine
python handler.py --test_input '{...}'     one job from the command line
python handler.py --rp_serve_api           a local HTTP server with the SDK's four routes
(RUNPOD_WEBHOOK_GET_JOB set)               a worker of the platform's queue
"""

import os
import sys

from pydantic import ValidationError

from engine.logs import configure
from engine.sdk import import_runpod
from engine.settings import Settings, complaint
from engine.worker import Worker


def main() -> None:
    """Start the worker the way the environment and the command line ask for."""
    try:
        settings = Settings.from_env(os.environ)
    except ValidationError as error:
        sys.exit(f"the environment is wrong: {complaint(error)}")
    configure(settings)  # before the SDK, which would configure the root logger while it is imported
    worker = Worker(settings)
    if not settings.local:
        worker.begin()
    runpod = import_runpod()
    if not settings.local:
        runpod.serverless.register_fitness_check(worker.fit)
    runpod.serverless.start({"handler": worker.handle, "concurrency_modifier": worker.gate})


if __name__ == "__main__":
    main()
