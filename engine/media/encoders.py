"""A request's crf, preset and colours in each encoder's own words."""

import os
from collections.abc import Callable, Mapping

from engine.media import hdr
from engine.media.hdr import StaticHdr
from engine.media.outputs import OutputSpec, encoder_crf, prores_profile, svt_preset, vpx_speed

_CHROMA_LOCATIONS = {1: "left", 2: "center", 3: "topleft", 4: "top", 5: "bottomleft", 6: "bottom"}

CARRIES_HDR = frozenset({"h264", "hevc", "av1"})
"""Codecs whose encoder, as used here, writes HDR10's static metadata."""


def encoder_options(encoder: str, spec: OutputSpec, static: StaticHdr) -> dict[str, str]:
    """FFmpeg's options for that encoder."""
    options = _OPTIONS[encoder](spec, static)
    location = _CHROMA_LOCATIONS.get(spec.colour.chroma_location)
    return {**options, "chroma_sample_location": location} if location else options


def _x264(spec: OutputSpec, static: StaticHdr) -> dict[str, str]:
    options = {"preset": spec.preset, "crf": str(encoder_crf("h264", spec.crf))}
    extra = hdr.x26x_options(static, "h264")
    return {**options, "x264-params": _joined(extra)} if extra else options


def _x265(spec: OutputSpec, static: StaticHdr) -> dict[str, str]:
    extra = {"log-level": "none", **hdr.x26x_options(static, "hevc")}
    if static.mastering or static.light:
        extra["hdr10"] = "1"
    return {"preset": spec.preset, "crf": str(encoder_crf("hevc", spec.crf)), "x265-params": _joined(extra)}


def _svt(spec: OutputSpec, static: StaticHdr) -> dict[str, str]:
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it writes to stderr and knows no other switch
    options = {"preset": str(svt_preset(spec.preset)), "crf": str(encoder_crf("av1", spec.crf))}
    extra = hdr.svt_options(static)
    return {**options, "svtav1-params": _joined(extra)} if extra else options


def _vpx(spec: OutputSpec, static: StaticHdr) -> dict[str, str]:
    speed, crf = str(vpx_speed(spec.preset)), str(encoder_crf("vp9", spec.crf))
    # b=0: the rate factor alone decides, not a bit rate.
    return {"deadline": "good", "cpu-used": speed, "crf": crf, "b": "0", "row-mt": "1"}


def _prores(spec: OutputSpec, static: StaticHdr) -> dict[str, str]:
    options = {"profile": prores_profile(spec.crf, spec.pixel.alpha), "vendor": "apl0"}
    return {**options, "alpha_bits": "16"} if spec.pixel.alpha else options


_OPTIONS: Mapping[str, Callable[[OutputSpec, StaticHdr], dict[str, str]]] = {
    "libx264": _x264,
    "libx265": _x265,
    "libsvtav1": _svt,
    "libvpx-vp9": _vpx,
    "prores_ks": _prores,
}


def _joined(options: Mapping[str, str]) -> str:
    return ":".join(f"{name}={value}" for name, value in options.items())
