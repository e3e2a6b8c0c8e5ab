"""The road without a model: our decode, identity, encode against the `ffmpeg` command's own transcode, and its memory.

    python -m benchmarks.road [--frames 400] [--repeats 3]

Both read the same 1280x720 H.264 clip and write H.264 at preset medium, crf 16, in the same run, taking turns. Ours
runs in a process of its own, timed from probing the source to the finished file; so is ffmpeg, by its own
`-benchmark` clock. Exits with 2 where there is no ffmpeg command.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

SIZE = (1280, 720)
CRF = 16
PRESET = "medium"
SHORT, LONG = 300, 3000


def make_clip(path: Path, frames: int, size: tuple[int, int] = SIZE) -> None:
    """Gradients that drift over one another, a moving edge, and film grain."""
    import av
    import numpy as np

    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    grain = np.random.default_rng(7).normal(0, 1.5, (8, height, width)).astype(np.float32)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "14"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index in range(frames):
            luma = 110 + 50 * np.sin((x + 6 * index) / 90) + 40 * np.cos((y - 3 * index) / 60)
            luma[:, (8 * index) % width :][:, :80] += 30
            luma += grain[index % 8]
            frame = av.VideoFrame(width, height, "yuv420p")
            _put(frame.planes[0], np.clip(luma, 16, 235))
            _put(frame.planes[1], 128 + 40 * np.sin((x[::2, ::2] - 2 * index) / 200))
            _put(frame.planes[2], 128 + 40 * np.cos((y[::2, ::2] + index) / 150))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _put(plane: object, values: object) -> None:
    import numpy as np

    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    rows[: values.shape[0], : values.shape[1]] = values.astype(np.uint8)


def ours(source: Path, target: Path) -> dict[str, float]:
    """Run the road here: seconds, frames, and the process' peak memory in MiB."""
    from engine.media.decode import open_media
    from engine.media.encode import OutputSpec, choose_pixel, create
    from engine.media.info import Ceilings, Clip
    from engine.media.probe import probe

    start = time.perf_counter()
    info = probe(source, Ceilings(seconds=10_000, frames=10**6, pixels=10**8))
    raster = info.raster
    spec = OutputSpec(
        container="mp4",
        codec="h264",
        width=raster.width,
        height=raster.height,
        pixel=choose_pixel("mp4", "h264", raster.pixel.bits, alpha=False),
        colour=raster.colour,
        fps=info.fps,
        time_base=info.time_base,
        crf=CRF,
        preset=PRESET,
    )
    with open_media(source, info) as reader, create(target, spec, (source, info, Clip())) as writer:
        for frame in reader.frames():
            writer.write(frame)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "frames": writer.frames, "peak": peak_memory()}


def peak_memory() -> float:
    """MiB. Not getrusage's, which begins with the peak of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def ours_apart(source: Path, target: Path) -> dict[str, float]:
    """The same in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.road", "--one", str(source), str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def theirs(source: Path, target: Path) -> float:
    """Seconds that the ffmpeg command takes."""
    command = ["ffmpeg", "-v", "info", "-nostdin", "-nostats", "-benchmark", "-y", "-i", str(source), "-c:v", "libx264"]
    command += ["-preset", PRESET, "-crf", str(CRF), "-movflags", "+faststart", str(target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(re.findall(r"rtime=([\d.]+)s", done.stderr)[-1])


def versions() -> tuple[str, str]:
    """(ours, theirs): FFmpeg's version and x264's core."""
    import av

    text = subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, text=True).stdout
    command = text.split()[2]
    return f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}", f"FFmpeg {command}"


def x264_core(path: Path) -> str:
    """The build of x264 that wrote the file, from the note that it leaves in the stream."""
    found = re.search(rb"x264 - core (\d+)", path.read_bytes()[:200_000])
    return found.group(1).decode() if found else "unknown"


def speed(folder: Path, frames: int, repeats: int) -> float:
    source = folder / "clip.mp4"
    make_clip(source, frames)
    mine, other = [], []
    for _ in range(repeats):
        mine.append(frames / ours_apart(source, folder / "ours.mp4")["seconds"])
        other.append(frames / theirs(source, folder / "theirs.mp4"))
    our_name, their_name = versions()
    rows = ((our_name, "ours.mp4", mine), (their_name, "theirs.mp4", other))
    print(
        f"road without a model, {SIZE[0]}x{SIZE[1]}, {frames} frames, x264 {PRESET} crf {CRF}, {os.cpu_count()} cores"
    )
    print(f"{'':44} {'x264':>6} {'MB':>7}   frames per second")
    for name, file, rates in rows:
        size = (folder / file).stat().st_size / 1e6
        listed = "  ".join(f"{rate:6.1f}" for rate in rates)
        print(f"{name:44} {x264_core(folder / file):>6} {size:7.2f}   {listed}   median {statistics.median(rates):.1f}")
    ratio = statistics.median(mine) / statistics.median(other)
    print(f"ratio {ratio:.3f} (at least 0.9 is wanted)")
    return ratio


def memory(folder: Path) -> float:
    peaks = []
    for frames in (SHORT, LONG):
        source = folder / f"{frames}.mp4"
        make_clip(source, frames, (480, 270))
        peaks.append(ours_apart(source, folder / "out.mp4")["peak"])
    growth = peaks[1] / peaks[0]
    print(
        f"peak memory, 480x270: {SHORT} frames {peaks[0]:.1f} MiB, {LONG} frames {peaks[1]:.1f} MiB, ratio {growth:.3f}"
    )
    print("(at most 1.1 is wanted)")
    return growth


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("SOURCE", "TARGET"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(ours(Path(chosen.one[0]), Path(chosen.one[1]))))
        return 0
    if shutil.which("ffmpeg") is None:
        print("no ffmpeg command on the path to compare with", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        ratio = speed(Path(name), chosen.frames, chosen.repeats)
        growth = memory(Path(name))
    return 0 if ratio >= 0.9 and growth <= 1.1 else 1


if __name__ == "__main__":
    sys.exit(main())
