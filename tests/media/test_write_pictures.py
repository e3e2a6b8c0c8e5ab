"""Stills, animations and the zip of pictures."""

import zipfile
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engine.errors import InvalidInput
from engine.frames import Colour, Frame
from engine.media.formats import view
from tests.media import samples
from tests.media.writing import decoded, frames, planes, psnr, spec_for, write

SRGB = Colour(primaries=1, transfer=13, matrix=0, range=2)
UNEVEN = [Fraction(cs, 100) for cs in (0, 2, 9, 42, 50, 125)]


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def _shown(path: Path) -> list[tuple[NDArray[np.uint8], int]]:
    """Every picture of an animation as RGBA, and its delay in milliseconds."""
    found = []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            found.append((np.array(image.convert("RGBA")), image.info["duration"]))
    return found


@pytest.mark.parametrize("size", [(1, 1), (33, 17), (64, 48)])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_is_lossless_at_any_size_depth_and_alpha(
    size: tuple[int, int], alpha: bool, bits: int, tmp_path: Path
) -> None:
    width, height = size
    spec = spec_for("png", bit_depth=bits, alpha=alpha, width=width, height=height, colour=SRGB)
    wanted = planes(3, spec.pixel, width, height)[0]
    write(tmp_path / "out.png", spec, [Frame((wanted,), Fraction(0))])
    found = decoded(tmp_path / "out.png")[0]
    found = found.reformat(format=found.format.name.replace("be", "le"))
    assert np.array_equal(view(found)[0], wanted)


def test_a_png_says_that_it_is_srgb(tmp_path: Path) -> None:
    spec = spec_for("png", colour=SRGB)
    write(tmp_path / "out.png", spec, frames(1, spec.pixel))
    with Image.open(tmp_path / "out.png") as image:
        assert "srgb" in image.info


@pytest.mark.parametrize("container", ["jpg", "webp"])
def test_jpeg_and_webp_stay_close(container: str, tmp_path: Path) -> None:
    spec = spec_for(container, width=33, height=17)
    wanted = planes(3, spec.pixel, 33, 17)[0]
    write(tmp_path / "out", spec, [Frame((wanted,), Fraction(0))])
    assert psnr(_pixels(tmp_path / "out"), wanted) > 35


def test_webp_keeps_alpha_and_is_lossless_at_crf_0(tmp_path: Path) -> None:
    spec = spec_for("webp", alpha=True, crf=0)
    wanted = planes(3, spec.pixel)[0]
    write(tmp_path / "out.webp", spec, [Frame((wanted,), Fraction(0))])
    found = _pixels(tmp_path / "out.webp")
    assert np.array_equal(found[..., 3], wanted[..., 3])
    opaque = wanted[..., 3] == 255
    assert np.array_equal(found[opaque], wanted[opaque])


def test_jpeg_lays_alpha_on_white_and_says_so(tmp_path: Path) -> None:
    spec = spec_for("jpg", alpha=True)
    notes = write(tmp_path / "out.jpg", spec, frames(1, spec.pixel))
    assert [note.code for note in notes] == ["ALPHA_FLATTENED"]
    found = _pixels(tmp_path / "out.jpg")
    assert found[:, :12].min() > 240
    assert psnr(found[:, 20:], planes(0, spec.pixel)[0][:, 20:, :3]) > 35


def test_a_still_refuses_a_second_frame_and_names_what_would_do(tmp_path: Path) -> None:
    for container in ("png", "jpg"):
        spec = spec_for(container)
        with pytest.raises(InvalidInput, match="png_sequence") as caught:
            write(tmp_path / "out", spec, frames(2, spec.pixel))
        assert caught.value.field == "output_format"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("container", ["gif", "webp"])
def test_animations_keep_every_frame_uneven_delays_and_alpha(container: str, alpha: bool, tmp_path: Path) -> None:
    spec = spec_for(container, alpha=alpha)
    stream = list(frames(5, spec.pixel, UNEVEN))
    stream[2] = Frame(stream[1].planes, stream[2].time, stream[2].duration)  # a picture that stands still counts too
    write(tmp_path / "out", spec, stream)
    shown = _shown(tmp_path / "out")
    assert [delay for _, delay in shown] == [20, 70, 330, 80, 750]
    for (found, _), frame in zip(shown, stream, strict=True):
        opaque = frame.planes[0][..., 3] == 255 if alpha else np.ones(found.shape[:2], bool)
        assert np.array_equal(found[..., 3] == 255, opaque)
        assert psnr(found[opaque][:, :3], frame.planes[0][opaque][:, :3]) > 32


def test_centiseconds_of_a_gif_do_not_add_up_to_a_drift(tmp_path: Path) -> None:
    times = [Fraction(n, 30) + 5 for n in range(31)]
    spec = spec_for("gif", fps=Fraction(30))
    write(tmp_path / "out.gif", spec, frames(30, spec.pixel, times))
    delays = [delay for _, delay in _shown(tmp_path / "out.gif")]
    assert len(delays) == 30
    assert sum(delays) == 1000
    assert set(delays) == {30, 40}


@pytest.mark.parametrize(("loop", "kept"), [({"loop": 0}, 0), ({"loop": 3}, 3), ({}, None)])
def test_an_animations_loops_are_kept(loop: dict[str, int], kept: int | None, tmp_path: Path) -> None:
    source = tmp_path / "source.gif"
    pictures = [Image.fromarray(samples.picture(index)) for index in range(3)]
    pictures[0].save(source, save_all=True, append_images=pictures[1:], duration=50, **loop)
    spec = spec_for("gif")
    write(tmp_path / "out.gif", spec, frames(3, spec.pixel), source)
    with Image.open(tmp_path / "out.gif") as image:
        assert image.info.get("loop") == kept


def test_a_gif_too_fast_for_viewers_is_told(tmp_path: Path) -> None:
    spec = spec_for("gif", fps=Fraction(60))
    notes = write(tmp_path / "out.gif", spec, frames(2, spec.pixel))
    assert [note.code for note in notes] == ["GIF_TOO_FAST"]


def test_a_sequence_is_a_zip_of_numbered_lossless_pictures(tmp_path: Path) -> None:
    spec = spec_for("png_sequence", bit_depth=16, alpha=True, width=33, height=17)
    stream = list(frames(5, spec.pixel, width=33, height=17))
    for path in (tmp_path / "a.zip", tmp_path / "b.zip"):
        write(path, spec, stream)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"{n:06d}.png" for n in range(1, 6)]
        assert archive.getinfo("000001.png").compress_type == zipfile.ZIP_STORED
        (tmp_path / "one.png").write_bytes(archive.read("000005.png"))
        assert Image.open(BytesIO(archive.read("000001.png"))).size == (33, 17)
    found = decoded(tmp_path / "one.png")[0].reformat(format="rgba64le")
    assert np.array_equal(view(found)[0], stream[4].planes[0])
