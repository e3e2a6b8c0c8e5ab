"""What happened to a picture before we got it: made half the size, and sometimes blurred, noisy or compressed.

Three in five pictures are only reduced, so that a clean source keeps all its detail; the rest lose a little more.
"""

import io
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from builder.bundled.pictures import Picture

CLEAN_SHARE = 0.6
REDUCERS = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BOX)
# BT.601, full range, as JPEG has it.
TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)


def halve(picture: Picture) -> Picture:
    """Bicubic, anti-aliased: the reduction that the network is judged by."""
    return _resized(picture, Image.Resampling.BICUBIC)


def degrade(rng: np.random.Generator, picture: Picture) -> Picture:
    """Half the size, and in two of five cases one to three light losses more."""
    if rng.random() < CLEAN_SHARE:
        return halve(picture)
    if rng.random() < 0.35:
        picture = _blurred(picture, rng.uniform(0.3, 1.0))
    small = _resized(picture, REDUCERS[rng.integers(len(REDUCERS))])
    if rng.random() < 0.35:
        small = _noisy(rng, small, rng.uniform(0.5, 6.0))
    loss = rng.random()
    if loss < 0.4:
        return jpeg(small, quality=int(rng.integers(60, 96)), full_colour=bool(rng.random() < 0.4))
    if loss < 0.75:
        return h264(small, crf=int(rng.integers(14, 29)), motion=tuple(rng.integers(-3, 4, 2)))
    return small


def jpeg(picture: Picture, quality: int, full_colour: bool = False) -> Picture:
    """There and back through JPEG, with colour at half resolution unless `full_colour`."""
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "JPEG", quality=quality, subsampling=0 if full_colour else 2)
    return np.asarray(Image.open(held).convert("RGB"))


def h264(picture: Picture, crf: int, motion: tuple[int, ...] = (0, 0)) -> Picture:
    """There and back through H.264, as the second frame of a clip that moves by `motion` pixels.

    Colour is converted here, in float: rounded twice by a scaler, it would drift, and the network would learn that.
    """
    even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
    planes = _to_planes(even)
    before = _to_planes(np.roll(even, motion, (0, 1)))
    height, width = even.shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for n, array in enumerate((before, planes)):
        frame = av.VideoFrame.from_ndarray(array, format="yuv420p")
        frame.pts = n
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    return _from_planes(np.asarray(frames[-1].to_ndarray(), np.uint8), height, width)


def _to_planes(picture: Picture) -> NDArray[np.uint8]:
    """4:2:0 planes stacked as PyAV wants them: luma, then both halved colour planes, on a full range."""
    height, width = picture.shape[:2]
    ycc = picture.astype(np.float32) @ TO_YCC.T
    small = ycc[..., 1:].reshape(height // 2, 2, width // 2, 2, 2).mean((1, 3)) + 128
    planes = [ycc[..., 0], small[..., 0], small[..., 1]]
    flat = np.concatenate([plane.reshape(-1) for plane in planes])
    return np.clip(flat + 0.5, 0, 255).astype(np.uint8).reshape(height * 3 // 2, width)


def _from_planes(planes: NDArray[np.uint8], height: int, width: int) -> Picture:
    flat = planes.reshape(-1)
    luma, quarter = height * width, height * width // 4
    colour = [
        np.asarray(
            Image.fromarray(flat[start : start + quarter].reshape(height // 2, width // 2).astype(np.float32)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        - 128
        for start in (luma, luma + quarter)
    ]
    ycc = np.stack([flat[:luma].reshape(height, width).astype(np.float32), *colour], -1)
    return np.asarray(np.clip(ycc @ np.linalg.inv(TO_YCC).T + 0.5, 0, 255), np.uint8)


def _resized(picture: Picture, resample: Image.Resampling) -> Picture:
    size = picture.shape[1] // 2, picture.shape[0] // 2
    return np.asarray(Image.fromarray(picture).resize(size, resample))


def _blurred(picture: Picture, sigma: float) -> Picture:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))


def _noisy(rng: np.random.Generator, picture: Picture, sigma: float) -> Picture:
    """Noise of one shade or of colours, sometimes as coarse as a processed camera picture's."""
    noise = rng.normal(0, sigma, (*picture.shape[:2], 1 if rng.random() < 0.4 else 3))
    if rng.random() < 0.3:
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 2
    return np.clip(picture + noise + 0.5, 0, 255).astype(np.uint8)
