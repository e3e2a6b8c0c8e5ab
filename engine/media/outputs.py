"""What can be written: containers, the codecs and audio they hold, and how a request's words become an encoder's.

Tables and rules only, and light to import: files are written by `encode` and its sinks. `crf` is on x264's scale
(0 best to 51) for every codec, so that one number means about one quality: AV1 and VP9, whose own scale ends at 63,
get it stretched by 63/51; ProRes, JPEG and WebP choose their profile or quality from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from engine.errors import InvalidInput, Problem
from engine.frames import RGB24, RGBA32, Colour, PixelFormat

Kind = Literal["video", "animation", "still", "archive"]

CRF_WORST = 51
UNTAGGED = Colour()
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Everything about the file to write that does not come from the source; `pixel` is what frames are handed in as.

    `codec` is None for the containers that know only one. `time_base` is the unit that times are rounded to.
    """

    container: str
    codec: str | None
    width: int
    height: int
    pixel: PixelFormat
    colour: Colour = UNTAGGED
    fps: Fraction = Fraction(25)
    time_base: Fraction = Fraction(1, 90_000)
    sample_aspect_ratio: Fraction = Fraction(1)
    crf: int = 16
    preset: str = "medium"
    keep_audio: bool = True


@dataclass(frozen=True, slots=True)
class Container:
    """One row of the table below. `audio` and `subtitles` name what is copied; other audio becomes `transcode`."""

    kind: Kind
    muxer: str
    content_type: str
    extension: str
    codecs: tuple[str, ...]
    audio: frozenset[str] = frozenset()
    transcode: str | None = None
    subtitles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Codec:
    """One row of the codecs' table: encoders in order of preference, then what frames they take.

    `crf_end` is the worst value on the encoder's own scale; `smallest` and `largest` bound an edge in pixels, and
    `narrowest` the width from below.
    """

    encoders: tuple[str, ...]
    pixels: tuple[PixelFormat, ...]
    crf_end: int = CRF_WORST
    smallest: int = 2
    narrowest: int = 0
    largest: int = 16_384


_PCM = frozenset(f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "u8"))
_MP4_AUDIO = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac", "dts"})
_MOV_AUDIO = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac"}) | _PCM
_MKV_AUDIO = _MP4_AUDIO | _PCM | {"vorbis", "truehd", "wmav2", "wavpack", "tta"}
_MKV_SUBTITLES = frozenset({"subrip", "ass", "ssa", "webvtt", "text", "hdmv_pgs_subtitle", "dvd_subtitle"})

_420 = tuple(PixelFormat("yuv", bits, 2, 2) for bits in (8, 10))

CODECS: dict[str, Codec] = {
    "h264": Codec(("libx264",), _420),
    "hevc": Codec(("libx265",), _420, smallest=16, narrowest=64),  # x265 4.1 breaks its heap at widths of 34 to 48
    "av1": Codec(("libsvtav1",), _420, crf_end=63, smallest=32),  # SVT-AV1 4.1 never returns from 128x16
    "vp9": Codec(("libvpx-vp9",), (*_420, PixelFormat("yuv", 8, 2, 2, alpha=True)), crf_end=63),
    "prores": Codec(("prores_ks",), (PixelFormat("yuv", 10, 2, 1), PixelFormat("yuv", 10, alpha=True))),
    "gif": Codec(("gif",), (RGB24, RGBA32), smallest=1, largest=65_535),
    "png": Codec(("png",), tuple(PixelFormat("rgb", b, alpha=a) for b in (8, 16) for a in (False, True)), smallest=1),
    "jpeg": Codec(("mjpeg",), (RGB24, RGBA32), smallest=1, largest=65_500),
    "webp": Codec(("libwebp",), (RGB24, RGBA32), smallest=1, largest=16_383),
}

CONTAINERS: dict[str, Container] = {
    "mp4": Container(
        "video", "mp4", "video/mp4", "mp4", ("h264", "hevc", "av1", "vp9"), _MP4_AUDIO, "aac", frozenset({"mov_text"})
    ),
    "mov": Container(
        "video", "mov", "video/quicktime", "mov", ("h264", "hevc", "prores"), _MOV_AUDIO, "aac", frozenset({"mov_text"})
    ),
    "mkv": Container(
        "video",
        "matroska",
        "video/x-matroska",
        "mkv",
        ("h264", "hevc", "av1", "vp9", "prores"),
        _MKV_AUDIO,
        "aac",
        _MKV_SUBTITLES,
    ),
    "webm": Container(
        "video",
        "webm",
        "video/webm",
        "webm",
        ("vp9", "av1"),
        frozenset({"opus", "vorbis"}),
        "opus",
        frozenset({"webvtt"}),
    ),
    "gif": Container("animation", "gif", "image/gif", "gif", ("gif",)),
    "webp": Container("animation", "webp", "image/webp", "webp", ("webp",)),
    "png": Container("still", "", "image/png", "png", ("png",)),
    "jpg": Container("still", "", "image/jpeg", "jpg", ("jpeg",)),
    "png_sequence": Container("archive", "", "application/zip", "zip", ("png",)),
}

# Presets above 9 exist for measuring speed alone: the encoder itself warns of artefacts.
_SVT_PRESETS = dict(zip(PRESETS, (9, 9, 9, 8, 7, 6, 5, 4, 3), strict=True))
_VPX_SPEEDS = dict(zip(PRESETS, (5, 5, 5, 4, 3, 2, 1, 1, 0), strict=True))


def extension(container: str) -> str:
    """The file name's ending, without its dot."""
    return CONTAINERS[container].extension


def content_type(container: str) -> str:
    return CONTAINERS[container].content_type


def default_codec(container: str, *, alpha: bool = False) -> str:
    """The codec that is used where the request names none: the container's first, or its first with alpha if wanted.

    Raises InvalidInput for an unknown container.
    """
    if container not in CONTAINERS:
        raise InvalidInput([_unknown_container(container)])
    codecs = CONTAINERS[container].codecs
    return next((codec for codec in codecs if alpha and holds_alpha(container, codec)), codecs[0])


def holds_alpha(container: str, codec: str | None = None) -> bool:
    """True if that pair stores transparency; without a codec, if any of the container's does."""
    codecs = (codec,) if codec else CONTAINERS[container].codecs
    if container in ("mp4", "jpg"):  # VP9's alpha is Matroska's side data; JPEG has none
        return False
    return any(pixel.alpha for name in codecs for pixel in CODECS[name].pixels)


def holds_several_frames(container: str) -> bool:
    """False for the pictures that are one frame."""
    return CONTAINERS[container].kind != "still"


def holds_audio(container: str) -> bool:
    return CONTAINERS[container].transcode is not None


def even_required(container: str) -> bool:
    """True where both edges must be even: every video, since chroma is halved and players expect it."""
    return CONTAINERS[container].kind == "video"


def choose_pixel(container: str, codec: str | None, bit_depth: int, alpha: bool) -> PixelFormat:
    """How frames must lie for that output. Raises InvalidInput for impossible pairs, naming the field and the way out.

    It is the least depth that holds what is asked: ProRes has 10 bits for 8, PNG 16 for 10. JPEG takes alpha and lays
    it on white.
    """
    wrong = problems(container, codec, bit_depth=bit_depth, alpha=alpha)
    if wrong:
        raise InvalidInput(wrong)
    pixels = CODECS[codec or default_codec(container, alpha=alpha)].pixels
    fitting = [pixel for pixel in pixels if pixel.alpha == alpha]
    return next(pixel for pixel in fitting if pixel.bits >= bit_depth)


def problems(
    container: str,
    codec: str | None,
    *,
    bit_depth: int = 8,
    alpha: bool = False,
    crf: int = 16,
    preset: str = "medium",
) -> list[Problem]:
    """Everything that is wrong with these wishes, empty when they can be written."""
    found = []
    if not 0 <= crf <= CRF_WORST:
        found.append(Problem("crf", f"{crf} is outside 0 (best) to {CRF_WORST}, x264's scale, used for every codec"))
    if preset not in PRESETS:
        found.append(Problem("preset", f"{preset!r} is not one of {', '.join(PRESETS)}"))
    if container not in CONTAINERS:
        return [*found, _unknown_container(container)]
    allowed = CONTAINERS[container].codecs
    codec = codec or default_codec(container, alpha=alpha)
    if codec not in allowed:
        return [*found, Problem("codec", f"{container} cannot hold {codec}; {_way_out(container, codec)}")]
    pixels = _available(codec)
    if alpha and container != "jpg" and not holds_alpha(container, codec):
        text = f"{codec} in {container} holds no alpha; vp9 in webm or mkv and prores in mov or mkv do"
        return [*found, Problem("codec", text)]
    depths = sorted({pixel.bits for pixel in pixels if pixel.alpha == alpha})
    if bit_depth > depths[-1]:
        text = f"{codec}{' with alpha' if alpha else ''} is written with {_either(depths)} bits, not {bit_depth}"
        found.append(Problem("bit_depth", text))
    return found


def size_problems(container: str, codec: str | None, width: int, height: int) -> list[Problem]:
    """What is wrong with a frame of that size for that output; empty when it can be written."""
    codec = codec or default_codec(container)
    row = CODECS[codec]
    edges = (("width", width, max(row.smallest, row.narrowest)), ("height", height, row.smallest))
    found = [
        Problem(name, f"{edge} is outside {least} to {row.largest}, what {codec} can hold")
        for name, edge, least in edges
        if not least <= edge <= row.largest
    ]
    if even_required(container):
        found += [Problem(name, f"{edge} is odd, and {codec} needs even sizes") for name, edge, _ in edges if edge % 2]
    return found


def encoder_name(codec: str) -> str:
    """The first of the codec's encoders that this build of FFmpeg has. Raises InvalidInput if it has none."""
    import av

    for name in CODECS[codec].encoders:
        if name in av.codecs_available:
            return name
    raise InvalidInput([Problem("codec", f"this worker has no {codec} encoder; {_either(_writable())} can be written")])


def encoder_crf(codec: str, crf: int) -> int:
    """The request's crf on the encoder's own scale."""
    return round(crf * CODECS[codec].crf_end / CRF_WORST)


def svt_preset(preset: str) -> int:
    """SVT-AV1's preset for x264's name of about that patience."""
    return _SVT_PRESETS[preset]


def vpx_speed(preset: str) -> int:
    """libvpx's cpu-used for x264's name of about that patience."""
    return _VPX_SPEEDS[preset]


def prores_profile(crf: int, alpha: bool) -> str:
    """ProRes has profiles instead of a rate factor: 4444 where there is alpha, else the better the lower the crf."""
    if alpha:
        return "4444"
    return next(
        name for worst, name in ((18, "hq"), (24, "standard"), (30, "lt"), (CRF_WORST, "proxy")) if crf <= worst
    )


def picture_quality(crf: int) -> int:
    """JPEG's and WebP's 1 to 100: crf 16, the default, is 95."""
    return min(100, 111 - crf)


def _available(codec: str) -> tuple[PixelFormat, ...]:
    """The layouts of a codec's row that its encoder, as built here, really takes."""
    if codec != "vp9":  # libvpx alone is often built without its high bit depth
        return CODECS[codec].pixels
    import av

    from engine.media.formats import to_ffmpeg

    formats = {form.name for form in av.Codec(encoder_name(codec), "w").video_formats or ()}
    return tuple(pixel for pixel in CODECS[codec].pixels if to_ffmpeg(pixel) in formats)


def _writable() -> list[str]:
    import av

    return [codec for codec, row in CODECS.items() if any(name in av.codecs_available for name in row.encoders)]


def _unknown_container(container: str) -> Problem:
    return Problem("output_format", f"{container!r} is not one of {', '.join(CONTAINERS)}")


def _way_out(container: str, codec: str) -> str:
    """The second half of the sentence about a codec in a wrong container."""
    holders = [name for name, row in CONTAINERS.items() if codec in row.codecs]
    holds = f"it holds {_either(CONTAINERS[container].codecs)}"
    return f"{holds}, and {_either(holders)} can hold {codec}" if holders else holds


def _either(words: Sequence[object]) -> str:
    texts = [str(word) for word in words]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
