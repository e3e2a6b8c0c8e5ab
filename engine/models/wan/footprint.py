"""How much memory one pass of a transformer takes beyond its weights, by arithmetic alone. No torch in here."""

from engine.models.wan.config import PATCH, DiTConfig

CHUNK_TOKENS = 8192  # that go through a layer at a time: enough to keep a large GPU busy
CHUNK_TOKENS_CPU = 1024  # whose activations a processor's cache nearly holds

_FLOAT = 4
_PICTURE_TOKENS = 257


def activation_bytes(
    config: DiTConfig, t: int, h: int, w: int, batch: int = 1, itemsize: int = 2, chunk_tokens: int = CHUNK_TOKENS
) -> int:
    """The most bytes alive at once for `batch` latents of t x h x w places; input, contexts and weights aside.

    Packed weights that become numbers are aside too. `chunk_tokens` is CHUNK_TOKENS_CPU on a processor. What kernels
    take for themselves is not in it.
    """
    tokens = t * (h // PATCH) * (w // PATCH)
    stream = batch * tokens * config.dim * (_FLOAT + 3 * itemsize)  # q, k and v beside it
    positions = tokens * config.head * _FLOAT
    chunk = min(chunk_tokens, batch * tokens)
    feed_forward = (config.hidden + 2 * config.dim) * itemsize
    attention = config.dim * max(5 * itemsize, 2 * itemsize + 2 * _FLOAT)
    time = 6 * config.dim**2 * _FLOAT if itemsize < _FLOAT else 0  # its largest weight in float32, before all else
    return max(time, stream + positions + chunk * max(feed_forward, attention))


def context_bytes(config: DiTConfig, itemsize: int = 2) -> int:
    """What one prompt's keys and values take at most, and the picture's in an i2v network."""
    keys = config.text_len + (0 if config.image_dim is None else _PICTURE_TOKENS)
    return 2 * config.layers * keys * config.dim * itemsize
