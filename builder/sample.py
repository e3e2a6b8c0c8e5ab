"""Make the clip that `python handler.py` upscales: a slow pan over procedural pictures, with a chord.

    python -m builder.sample [--seed 7] [--out engine/data/sample.mp4]

Everything in it is drawn and sounded by this repository, so that it may be shared like the code.
"""

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from builder.bundled.pictures import draw_picture, generator

WIDTH, HEIGHT, FPS, SECONDS_EACH = 320, 180, 25, 1
SCENES = (13, 12, 15)  # which of the seed's pictures
SIDE = 480
RATE = 44_100
CHORD = (220.0, 277.18, 329.63, 440.0)


def frames(seed: int) -> Iterator[NDArray[np.uint8]]:
    """(H, W, 3) pictures: each scene drifts to the right and comes a little closer."""
    for scene in SCENES:
        sheet = Image.fromarray(draw_picture(generator(seed, 0, scene), SIDE))
        for step in range(FPS * SECONDS_EACH):
            share = step / (FPS * SECONDS_EACH)
            width = SIDE * (0.8 - 0.1 * share)
            left, top = SIDE * 0.2 * share, SIDE * (0.2 + 0.1 * share)
            box = (left, top, left + width, top + width * HEIGHT / WIDTH)
            view = sheet.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box)
            yield np.asarray(view)


def chord() -> NDArray[np.float32]:
    """(1, samples): four sines that swell and fade."""
    t = np.arange(RATE * SECONDS_EACH * len(SCENES)) / RATE
    swell = np.sin(np.pi * t / t[-1]) ** 0.5
    return (0.08 * swell * sum(np.sin(2 * np.pi * f * t) for f in CHORD)).astype(np.float32)[None]


def write(path: Path, seed: int) -> None:
    """Encode pictures and sound."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=FPS, options={"crf": "24", "preset": "veryslow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = out.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 48_000
        for index, picture in enumerate(frames(seed)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(chord(), format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = RATE, 0, Fraction(1, RATE)
        out.mux(audio.encode(sound))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=7, help="of the pictures (default 7)")
    parser.add_argument("--out", type=Path, default=Path("engine/data/sample.mp4"), help="the file to write")
    arguments = parser.parse_args()
    write(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
