"""How much memory a colour correction takes, in plain arithmetic. Content and style, the caller's, are not counted."""

from engine.pipelines.color.pieces import CPU_PIXELS, GPU_PIXELS

RESULT = 12  # bytes for each pixel of the slice, as everything in `_WHOLE`
_WHOLE = {"lab": 16, "hsv": 40, "wavelet_adaptive": 40}  # at most: where all pixels have one hue
_PIECE = {"lab": 84, "hsv": 64, "wavelet_adaptive": 52, "wavelet": 24}  # for each pixel of a piece
_FRAME = {"wavelet_adaptive": 12, "adain": 5}  # for each pixel of a frame
SORT_WORKSPACE = 20  # bytes for each value: keys and 64-bit indices once more, and the indices before the sort


def color_bytes(method: str, frames: int, height: int, width: int, *, on_cpu: bool = False) -> int:
    """Peak bytes of `correct`, its result included: tensors, and what sorting takes for itself.

    The latter is a guess for CUDA, not measured.
    """
    sorting = SORT_WORKSPACE * frames * height * width if method in _WHOLE else 0
    return tensor_bytes(method, frames, height, width, on_cpu=on_cpu) + sorting


def tensor_bytes(method: str, frames: int, height: int, width: int, *, on_cpu: bool = False) -> int:
    """Peak bytes of the tensors that `correct` makes, its result included."""
    frame = height * width
    piece = min(frame, CPU_PIXELS if on_cpu else GPU_PIXELS)
    pieces = _PIECE.get(method, 0) * piece + _FRAME.get(method, 0) * frame
    return RESULT * frames * frame + max(_WHOLE.get(method, 0) * frames * frame, pieces)
