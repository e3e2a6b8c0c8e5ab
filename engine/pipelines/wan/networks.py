"""Wan2.1's four networks on one device, and which of them is there when."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from engine.models.checks import Check
from engine.models.wan.clip import CLIPVision, clip_pixels
from engine.models.wan.dit import Context, WanDiT
from engine.models.wan.umt5 import UMT5
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_tiles import decode_tiled, encode_still_tiled, encode_tiled
from engine.pipelines.shuttle import Shuttle, Train
from engine.pipelines.wan.memory import Sizes
from engine.pipelines.wan.plan import OVERLAP, Plan
from engine.weights.packed import is_packed

CPU = torch.device("cpu")


class Networks:
    """Loaded and prepared; `image` is for i2v alone. A call brings its network and sends away what must not stay."""

    def __init__(
        self,
        text: UMT5,
        image: CLIPVision | None,
        dit: WanDiT,
        vae: WanVAE,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.text, self.image, self.vae = text, image, vae
        self._dit: WanDiT | None
        self.device, self.dtype = device, dtype
        self._homes: dict[str, Shuttle | Train] = {"text": Shuttle(text, device), "vae": Shuttle(vae, device)}
        if image is not None:
            self._homes["image"] = Shuttle(image, device)
        self.take(dit)

    @property
    def dit(self) -> WanDiT:
        """The transformer. To be asked for only where there is one."""
        assert self._dit is not None
        return self._dit

    @property
    def sizes(self) -> Sizes:
        block = sum(t.nbytes for t in (*self.dit.blocks[0].parameters(), *self.dit.blocks[0].buffers()))
        weights = {name: home.bytes for name, home in self._homes.items()}
        image = None if self.image is None else self.image.config
        packed = frozenset(name for name, net in (("dit", self.dit), ("text", self.text)) if is_packed(net))
        return Sizes(self.dit.config, self.vae.config, self.text.config, image, weights, block, packed)

    @property
    def here_bytes(self) -> int:
        """What they take of the device now."""
        return sum(home.bytes - home.away_bytes for home in self._homes.values())

    def give_up(self) -> None:
        """Let go of the transformer: until another one is taken, nothing can be made."""
        self._dit = None
        self._homes.pop("dit", None)

    def take(self, dit: WanDiT) -> None:
        """Work with this transformer."""
        self._dit = dit
        self._homes["dit"] = Train(dit, list(dit.blocks), self.device)

    def encode_text(self, ids: Sequence[int], plan: Plan, check: Check) -> Tensor:
        """Tokens -> (N, text_dim)"""
        where = CPU if plan.text_on_host else self.device
        if plan.text_on_host:
            self._homes["text"].leave()
        else:
            self.bring("text", plan)
        return self.text(torch.tensor(ids, device=where), check)  # type: ignore[no-any-return]

    def encode_image(self, picture: Tensor, plan: Plan) -> Tensor:
        """(1, 3, H, W) in [-1, 1] at its own size -> features (257, image_dim)."""
        assert self.image is not None
        self.bring("image", plan)
        return self.image(clip_pixels(picture).to(self.image.dtype))[0]  # type: ignore[no-any-return]

    def encode_still(self, frame: Tensor, frames: int, plan: Plan, check: Check) -> Tensor:
        """A first frame (1, 3, H, W), grey after it -> latents (16, T, h, w)."""
        self.bring("vae", plan)
        if plan.tile:
            return encode_still_tiled(self.vae, frame, frames, plan.tile, plan.tile - OVERLAP, check)[0]
        return self.vae.encode_still(frame, frames, check)[0]

    def encode(self, frames: Iterable[Tensor], plan: Plan, check: Check) -> Tensor:
        """4 n + 1 frames (1, 3, H, W) -> latents (16, T, h, w)."""
        self.bring("vae", plan)
        if plan.tile:
            return encode_tiled(self.vae, frames, plan.tile, plan.tile - OVERLAP, check)[0]
        return self.vae.encode(frames, check)[0]

    def decode(self, latents: Tensor, plan: Plan, check: Check) -> Iterator[Tensor]:
        """(16, T, h, w) -> frames (1, 3, n, H, W) in [-1, 1], a few at a time."""
        self.bring("vae", plan)
        if plan.tile:
            return decode_tiled(self.vae, latents[None], plan.tile, plan.tile - OVERLAP, check)
        return self.vae.decode(latents[None], check)

    def context(self, text: Tensor, image: Tensor | None) -> Context:
        """What the transformer attends to, for a prompt's rows and an image's features."""
        return self.dit.context(text.to(self.device), None if image is None else image.to(self.device))

    def bring(self, wanted: str, plan: Plan) -> None:
        """Put a network onto the device for its phase."""
        for name, home in self._homes.items():
            if name != wanted and name not in plan.stay:
                home.leave()
        home = self._homes[wanted]
        if isinstance(home, Train):
            home.resident = plan.resident
        home.come()
