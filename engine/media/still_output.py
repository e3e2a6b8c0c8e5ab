"""PNG, JPEG and WebP pictures, and a zip of PNGs for a whole sequence.

Pictures are in sRGB, which is what readers take them for: the reading side has applied the source's profile.
"""

import io
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from engine.errors import Internal, InvalidInput, Problem
from engine.frames import Frame, Plane
from engine.media.formats import fill, to_ffmpeg
from engine.media.outputs import OutputSpec, picture_quality
from engine.media.sinks import Source
from engine.notes import Note


class StillFile:
    """One picture in one file."""

    def __init__(self, path: Path, spec: OutputSpec, source: Source | None) -> None:
        self.notes: list[Note] = []
        self.audio_tracks = 0
        self._path, self._spec = path, spec
        self._written = False

    def write(self, frame: Frame) -> None:
        if self._written:
            text = (
                f"{self._spec.container} holds one picture, and there are more; png_sequence, gif, webp or mp4 would do"
            )
            raise InvalidInput([Problem("output_format", text)])
        if self._spec.container == "jpg" and self._spec.pixel.alpha:
            self.notes.append(Note("ALPHA_FLATTENED", "JPEG has no alpha: transparent parts were laid on white"))
        self._path.write_bytes(self._encoded(frame))
        self._written = True

    def finish(self) -> None:
        if not self._written:
            raise Internal("no frame reached the encoder; the pipeline must yield at least one")

    def abort(self) -> None:
        pass

    def _encoded(self, frame: Frame) -> bytes:
        if self._spec.container == "png":
            return PngEncoder(self._spec).encode(frame)
        quality = {"lossless": True} if (self._spec.container, self._spec.crf) == ("webp", 0) else {}
        data = io.BytesIO()
        Image.fromarray(self._flat(frame.planes[0])).save(
            data,
            "JPEG" if self._spec.container == "jpg" else "WEBP",
            quality=picture_quality(self._spec.crf),
            subsampling=0,
            **quality,
        )
        return data.getvalue()

    def _flat(self, pixels: Plane) -> Any:
        """The picture as it is, or for JPEG laid on white."""
        if self._spec.container != "jpg" or not self._spec.pixel.alpha:
            return pixels
        alpha = pixels[..., 3:].astype(np.float32) / 255
        return np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


class PngSequence:
    """A zip of `000001.png` and on, stored: PNG is compressed already. One picture is in memory at a time."""

    def __init__(self, path: Path, spec: OutputSpec, source: Source | None) -> None:
        self.notes: list[Note] = []
        self.audio_tracks = 0
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)
        self._encoder = PngEncoder(spec)
        self._count = 0

    def write(self, frame: Frame) -> None:
        self._count += 1
        # A ZipInfo of our own has the format's fixed earliest date: equal pictures give equal files.
        self._zip.writestr(zipfile.ZipInfo(f"{self._count:06d}.png"), self._encoder.encode(frame))

    def finish(self) -> None:
        if not self._count:
            raise Internal("no frame reached the encoder; the pipeline must yield at least one")
        self._zip.close()

    def abort(self) -> None:
        self._zip.close()


class PngEncoder:
    """FFmpeg's PNG encoder, since Pillow writes no 16-bit colour."""

    def __init__(self, spec: OutputSpec) -> None:
        self._spec = spec
        self._name = to_ffmpeg(spec.pixel).replace("le", "be")
        context: Any = av.CodecContext.create("png", "w")
        context.width, context.height, context.pix_fmt = spec.width, spec.height, self._name
        context.time_base = Fraction(1, 25)  # any will do: a picture has no time
        context.options = {"pred": "mixed"}
        self._context = context
        self._count = 0

    def encode(self, frame: Frame) -> bytes:
        """One whole file."""
        spec = self._spec
        picture: Any = fill(frame.planes, spec.pixel, spec.width, spec.height)
        if picture.format.name != self._name:
            picture = picture.reformat(format=self._name)
        picture.color_primaries, picture.color_trc = spec.colour.primaries, spec.colour.transfer
        picture.pts, picture.time_base = self._count, self._context.time_base
        self._count += 1
        return b"".join(bytes(packet) for packet in self._context.encode(picture))
