"""SeedVR2's three steps on tensors: encode to a latent, one step of diffusion, decode. Which network is on the device.

A clip is (B, 3, F, H, W) in [-1, 1], F = 4n+1, H and W multiples of 16; its latent is (B, T, h, w, 16) with T = n+1,
h = H/8, w = W/8, scaled as the transformer knows it.
"""

import torch
from torch import Tensor

from engine.models.checks import Check
from engine.models.seedvr2.dit import DiT3B, DiT7B
from engine.models.seedvr2.tiles import decode_tiled, encode_tiled
from engine.models.seedvr2.vae import VideoVAE
from engine.pipelines.seedvr2.plan import Plan
from engine.pipelines.seedvr2.sampling import LATENT_SCALE, condition, denoise
from engine.pipelines.shuttle import Shuttle


class Networks:
    """The autoencoder and the transformer, loaded and prepared, with the plan that says how they share the device."""

    def __init__(self, dit: DiT3B | DiT7B, vae: VideoVAE, device: torch.device, dtype: torch.dtype) -> None:
        self.dit = dit
        self.vae = vae
        self.device = device
        self.dtype = dtype
        self._dit_home = Shuttle(dit, device)
        self._vae_home = Shuttle(vae, device)

    @property
    def dit_bytes(self) -> int:
        return self._dit_home.bytes

    @property
    def vae_bytes(self) -> int:
        return self._vae_home.bytes

    @property
    def away_bytes(self) -> int:
        """What a job that wants both networks on the device must still find room for."""
        return self._dit_home.away_bytes + self._vae_home.away_bytes

    def encode(self, clip: Tensor, plan: Plan, check: Check) -> Tensor:
        """(B, 3, F, H, W) -> (B, T, h, w, 16) float32."""
        self._bring(self._vae_home, self._dit_home, plan)
        clip = clip.to(self.dtype)
        if plan.tile:
            tile, overlap = (plan.tile, plan.tile), (plan.tile_overlap, plan.tile_overlap)
            z = encode_tiled(self.vae, clip, tile, overlap, plan.slice_latents, check)
        else:
            z = self.vae.encode(clip, plan.slice_latents, check)
        return z.movedim(1, -1).float().mul_(LATENT_SCALE)

    def restore(self, latent: Tensor, noise: Tensor, plan: Plan, check: Check) -> Tensor:
        """(B, T, h, w, 16) of the source, noise of that shape -> (B, T, h, w, 16) float32 of the result."""
        self._bring(self._dit_home, self._vae_home, plan)
        return denoise(noise, self.dit(condition(latent, noise).to(self.dtype), check))

    def decode(self, latent: Tensor, plan: Plan, check: Check) -> Tensor:
        """(B, T, h, w, 16) -> (B, 3, F, H, W), unclamped."""
        self._bring(self._vae_home, self._dit_home, plan)
        z = latent.div(LATENT_SCALE).movedim(-1, 1).to(self.dtype)
        if not plan.tile:
            return self.vae.decode(z, plan.slice_latents, check)
        tile, overlap = (plan.tile, plan.tile), (plan.tile_overlap, plan.tile_overlap)
        return decode_tiled(self.vae, z, tile, overlap, plan.slice_latents, check)

    def _bring(self, wanted: Shuttle, resting: Shuttle, plan: Plan) -> None:
        if plan.offload:
            resting.leave()
        wanted.come()
        if not plan.offload:
            resting.come()
