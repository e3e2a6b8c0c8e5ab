"""Other spellings of a choice that callers and tools use for the same thing."""

FORMATS = {"jpeg": "jpg"}
CODECS = {
    "avc": "h264", "h.264": "h264", "x264": "h264",
    "h265": "hevc", "h.265": "hevc", "x265": "hevc",
}  # fmt: skip


def usual_format(value: object) -> object:
    """`.jpeg` as `jpg`; what is no known spelling stays as it is, for the field's own check."""
    if not isinstance(value, str):
        return value
    name = value.removeprefix(".")
    return FORMATS.get(name, name)


def usual_codec(value: object) -> object:
    """`x265` as `hevc`; what is no known spelling stays as it is, for the field's own check."""
    return CODECS.get(value, value) if isinstance(value, str) else value
