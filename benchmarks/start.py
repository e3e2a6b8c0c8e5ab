"""How long a worker takes from its process's start to its first ping and to its first poll for a job.

    python -m benchmarks.start [--runs 5]

The platform is a local stand-in; nothing is measured but this machine. The first ping comes when Python, the contract,
the SDK and, beside it, the engine are imported and the checks have passed; no job is taken before the bundled weights
are in and one tiny shape has run.
"""

import argparse
import statistics
import subprocess
import sys
import time

from tests.worker.fake_platform import FakePlatform


def seconds_to_import() -> float:
    """Wall time of a process that only imports the entry point."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import handler"], check=True)
    return time.monotonic() - began


def seconds_to_ping_and_take() -> tuple[float, float]:
    """Wall time from spawning a worker to its first ping and to its first job-take."""
    with FakePlatform(take_wait=1.0) as platform:
        began = time.time()
        platform.spawn([sys.executable, "-u", "handler.py"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen: dict[str, float] = {}
        while "job-take" not in seen:
            time.sleep(0.005)
            for request in list(platform.journal):
                seen.setdefault(request["route"], request["t"])
    return seen["ping"] - began, seen["job-take"] - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured (default 5)")
    runs = parser.parse_args().runs
    imports = [seconds_to_import() for _ in range(runs)]
    starts = [seconds_to_ping_and_take() for _ in range(runs)]
    rows = {
        "import handler": imports,
        "process start to the first ping (imports and checks done)": [ping for ping, _ in starts],
        "process start to first job-take (engine and weights in)": [take for _, take in starts],
    }
    print(f"{'':59} {'median s':>9} {'min':>6} {'max':>6}")
    for name, values in rows.items():
        print(f"{name:59} {statistics.median(values):9.2f} {min(values):6.2f} {max(values):6.2f}")


if __name__ == "__main__":
    main()
