"""The memory of making one video, network by network, by arithmetic alone: bytes of the device, weights included.

What the transformer and the autoencoder take was fitted to the bytes of their live tensors at full size; see the
functions it comes from. What an allocator cannot give back comes on top.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch

from engine.models.wan.clip import CLIPConfig
from engine.models.wan.config import DiTConfig
from engine.models.wan.footprint import activation_bytes, context_bytes
from engine.models.wan.umt5 import UMT5Config
from engine.models.wan.vae_config import WanVAEConfig, decode_bytes, encode_bytes
from engine.pipelines.wan.options import WanOptions
from engine.pipelines.wan.windows import LONGEST

FLOAT = 4
SLACK = 1.15
LATENT_COPIES = 10  # of the latents in float32: noise, guesses of earlier steps, velocities
CODES = 5  # float32 copies of a decoded frame while it becomes codes
SOURCE = 40  # bytes for each pixel of a source's frame: its planes and RGB in float32, what lies between
UNPACKING = 6  # bytes a value takes beyond the result while blocks of few bits become numbers
AHEAD = 2  # blocks of the transformer beside those that stay: one at work, one on its way
IMAGE_TOKENS = 257
PHASES = ("text", "image", "encode", "sample", "decode")


@dataclass(frozen=True, slots=True)
class Sizes:
    """A model's networks. weights: bytes of each in memory, by name; block: of one block of the transformer. packed:
    networks whose weights are stored in a byte a value or less, and become numbers when they are used.
    """

    dit: DiTConfig
    vae: WanVAEConfig
    text: UMT5Config
    image: CLIPConfig | None
    weights: Mapping[str, int]
    block: int
    packed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Footprint:
    """A job's sizes. latents: of the whole video. source_pixels: of a frame to begin from, else 0. passes: 2 where
    there is guidance. itemsize: bytes of a number in the networks' arithmetic.
    """

    sizes: Sizes
    latents: int
    height: int
    width: int
    source_pixels: int
    passes: int
    itemsize: int
    on_gpu: bool

    @classmethod
    def of(
        cls, sizes: Sizes, options: WanOptions, source_pixels: int, dtype: torch.dtype, device: torch.device
    ) -> Self:
        return cls(
            sizes=sizes,
            latents=latent_frames(options.frames),
            height=options.height,
            width=options.width,
            source_pixels=source_pixels if options.task != "t2v" else 0,
            passes=1 if options.guidance == 1 else 2,
            itemsize=dtype.itemsize,
            on_gpu=device.type == "cuda",
        )

    def peaks(
        self, stay: Iterable[str], *, resident: int, batched: bool, tile: int, text_on_host: bool
    ) -> dict[str, int]:
        """Bytes at each phase's worst moment. stay: networks that are on the device all the time. resident: blocks of
        the transformer that are there while it works, at the least. tile: pixels, 0 for whole frames.
        """
        work = self._work(batched, tile)
        weights = dict(self.sizes.weights)
        if resident < self.sizes.dit.layers:
            weights["dit"] -= max(self.sizes.dit.layers - resident - AHEAD, 0) * self.sizes.block
        needs = {"text": "text", "image": "image", "encode": "vae", "sample": "dit", "decode": "vae"}
        peaks = {}
        for phase, bytes_ in work.items():
            there = {*stay, needs[phase]} - ({"text"} if text_on_host else set())
            away = phase == "text" and text_on_host
            peaks[phase] = int(sum(weights[name] for name in there) + (0 if away else SLACK * bytes_))
        return peaks

    def _work(self, batched: bool, tile: int) -> dict[str, int]:
        """What each phase takes beside weights; only the phases that there are."""
        rows, columns = (min(tile or n, n) for n in (self.height, self.width))
        latent = FLOAT * self.sizes.dit.outputs * self.latents * self.height * self.width // 64
        frame = FLOAT * 3 * self.height * self.width
        work = {"text": self._text()}
        if self.source_pixels and self.sizes.image is not None:
            work["image"] = SOURCE * self.source_pixels + _image_bytes(self.sizes.image, self.itemsize)
        if self.source_pixels:
            source = SOURCE * self.source_pixels + 2 * frame
            work["encode"] = encode_bytes(self.sizes.vae, rows, columns, self.itemsize) + source + 2 * latent
        work["sample"] = self._sample(batched) + LATENT_COPIES * latent
        work["decode"] = decode_bytes(self.sizes.vae, rows, columns, self.itemsize) + CODES * frame + 2 * latent
        return work

    def _text(self, tokens: int = 512) -> int:
        """One prompt of the longest kind: streams and the feed-forward, scores and their bias."""
        text = self.sizes.text
        unpacked = text.dim * text.hidden * (self.itemsize + UNPACKING) if "text" in self.sizes.packed else 0
        streams = tokens * (6 * text.dim + 3 * text.hidden) * self.itemsize
        return streams + 3 * text.heads * tokens**2 * FLOAT + unpacked

    def _sample(self, batched: bool) -> int:
        dit, window = self.sizes.dit, min(self.latents, LONGEST)
        batch = self.passes if batched else 1
        inside = activation_bytes(dit, window, self.height // 8, self.width // 8, batch, self.itemsize)
        return inside + self.passes * context_bytes(dit, self.itemsize) + self._unpacked()

    def _unpacked(self) -> int:
        """A block's weights in numbers, which stay until it is done, and what its largest takes to become such."""
        if "dit" not in self.sizes.packed:
            return 0
        dit = self.sizes.dit
        matrices = (8 if dit.image_dim is None else 10) * dit.dim**2 + 2 * dit.dim * dit.hidden
        return matrices * self.itemsize + dit.dim * dit.hidden * UNPACKING


def latent_frames(frames: int) -> int:
    """Latents of a clip that holds at least so many frames."""
    return (frames + 2) // 4 + 1


def _image_bytes(image: CLIPConfig, itemsize: int) -> int:
    return IMAGE_TOKENS * (8 * image.dim + 2 * image.hidden) * itemsize + 2 * image.heads * IMAGE_TOKENS**2 * FLOAT
