"""How much memory one pass of a transformer takes beyond its weights, by arithmetic alone. No torch in here."""

import math

from engine.models.seedvr2.config import OUTPUTS, PATCH, DiTConfig
from engine.models.seedvr2.windows import groups

CHUNK_TOKENS = 8192  # that go through a layer at a time: enough to keep a large GPU busy
CHUNK_TOKENS_CPU = 1024  # whose activations a processor's cache nearly holds

_INDEX_BYTES = 6 * 8  # for each token, three indices of each kind of layer
_CHUNK_COPIES = 8.2  # of a chunk during attention: its norm, q, k, v, keys and values with the prompt's, q, the result
_CHUNK_FLOATS = 2  # of q and k, in float32


def activation_bytes(
    config: DiTConfig,
    t: int,
    h: int,
    w: int,
    batch: int = 1,
    itemsize: int = 2,
    residual: int | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> int:
    """The most bytes alive at once for `batch` latents of t x h x w places, the input and the weights aside.

    `residual` is the itemsize of the streams where they are wider than the rest: 4 when computing in float16.
    `chunk_tokens` is CHUNK_TOKENS_CPU on a processor. On CUDA the attention kernels take next to nothing of their own;
    the plain fallback would take its matrix of scores.
    """
    residual = residual or itemsize
    rows, columns = h // PATCH, w // PATCH
    tokens = batch * t * rows * columns
    window = max(math.prod(group.shape) for shifted in (False, True) for group in groups(t, rows, columns, shifted))
    chunk = min(tokens, max(chunk_tokens, window))
    inside = chunk * config.dim * (_CHUNK_COPIES * itemsize + _CHUNK_FLOATS * 4 + (residual - itemsize))
    between = tokens * (config.dim * residual + 3 * PATCH**2 * OUTPUTS * itemsize)
    return int(tokens * (config.dim * residual + _INDEX_BYTES) + max(inside, between))
