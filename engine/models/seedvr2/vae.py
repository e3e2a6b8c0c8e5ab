"""SeedVR2's video autoencoder: frames (B, 3, T, H, W) in [-1, 1] to latents (B, 16, t, H / 8, W / 8) and back.

T = 4 n + 1 frames make t = n + 1 latents. Nothing sees later frames, and the frames of a clip may be worked on in any
order that respects time: layer after layer over the whole clip, which holds all its frames, or a slice through all
layers, which holds two frames of history for every convolution instead. The result is the same but for rounding.
Names in the state dict are the published ones; `prepare` folds the weights once they are in.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from engine.models.causal import Clip, Layer
from engine.models.checks import Check, unchecked
from engine.models.pointwise import PointConv
from engine.models.seedvr2.blocks import Downsampler, HalfSize, MidBlock, Output, ResnetBlock
from engine.models.seedvr2.causal import CausalConv
from engine.models.seedvr2.norm import FrameNorm
from engine.models.seedvr2.upsample import DoublingUpsampler, Upsampler
from engine.models.seedvr2.vae_config import SPATIAL, TEMPORAL, VAEConfig
from engine.models.streams import Frames, Stage, through


class Encoder(nn.Module):
    """Frames to the mean and the log-variance of latents, 32 channels."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, groups = config.channels, config.groups
        self.conv_in = CausalConv(config.colours, channels[0])
        levels = zip(channels[:1] + channels[:-1], channels, (False, True, True, None), strict=True)
        self.down_blocks = nn.ModuleList([DownBlock(a, b, groups, temporal) for a, b, temporal in levels])
        self.mid_block = MidBlock(channels[-1], groups)
        self.conv_norm_out = FrameNorm(groups, channels[-1])
        self.conv_out = CausalConv(channels[-1], 2 * config.latent)

    def stages(self, size: int) -> list[Stage]:
        blocks = [cast(DownBlock, block).layers for block in self.down_blocks]
        end = [*self.mid_block.layers, Output(self.conv_norm_out, self.conv_out)]
        groups = [[self.conv_in, *blocks[0]], blocks[1], blocks[2], [*blocks[3], *end]]
        return [(2 * size, cast(Sequence[Layer], layers)) for layers in groups]


class DownBlock(nn.Module):
    """A holder of two residual blocks and, where `temporal` is told, what follows at the next smaller size."""

    def __init__(self, inputs: int, outputs: int, groups: int, temporal: bool | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(c, outputs, groups) for c in (inputs, outputs)])
        self.downsamplers = nn.ModuleList([] if temporal is None else [Downsampler(outputs, temporal)])

    @property
    def layers(self) -> list[nn.Module]:
        return [*self.resnets, *self.downsamplers]


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, groups = config.channels[::-1], config.groups
        self.conv_in = CausalConv(config.latent, channels[0])
        self.mid_block = MidBlock(channels[0], groups)
        levels = zip(channels[:1] + channels[:-1], channels, (2, 2, 1, None), strict=True)
        self.up_blocks = nn.ModuleList([UpBlock(a, b, groups, frames) for a, b, frames in levels])
        self.conv_norm_out = FrameNorm(groups, channels[-1])
        self.conv_out = CausalConv(channels[-1], config.colours)

    def stages(self, size: int) -> list[Stage]:
        """The larger the frames, the fewer at a time: a latent's four frames never meet at full size."""
        blocks = [cast(UpBlock, block) for block in self.up_blocks]
        ups = [up for block in blocks for up in block.upsamplers]
        stages: list[tuple[int, list[nn.Module]]] = [
            (2 * size, [self.conv_in, *self.mid_block.layers, *blocks[0].resnets]),
            (size, [ups[0], *blocks[1].resnets]),
            (size, [ups[1], *blocks[2].resnets]),
            (2 * size, [ups[2], *blocks[3].resnets, Output(self.conv_norm_out, self.conv_out)]),
        ]
        return [(size, cast(Sequence[Layer], layers)) for size, layers in stages]


class UpBlock(nn.Module):
    """A holder of three residual blocks and, where `frames` is told, what follows at the next larger size."""

    def __init__(self, inputs: int, outputs: int, groups: int, frames: int | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(c, outputs, groups) for c in (inputs, outputs, outputs)])
        kinds = {1: Upsampler, 2: DoublingUpsampler}
        self.upsamplers = nn.ModuleList([] if frames is None else [kinds[frames](outputs)])


class VideoVAE(nn.Module):
    """Both halves. `slice_latents` latents (0: all) are worked on at a time; `check` is called before every layer of
    every two frames and may raise: nothing of the clip stays behind."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def prepare(self) -> None:
        """Bring the published weights into the form that the layers use, in place. To be called once."""
        for module in [*self.modules()]:
            if isinstance(module, Upsampler | DoublingUpsampler):
                module.prepare()
        for module in self.modules():
            if isinstance(module, CausalConv | PointConv | HalfSize):
                module.prepare()

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.conv_in.weight.dtype

    def encode(self, x: Tensor, slice_latents: int = 0, check: Check = unchecked) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] -> the mean of the latents (B, 16, t, H / 8, W / 8), unscaled."""
        return self.posterior(x, slice_latents, check)[:, : self.config.latent]

    def posterior(self, x: Tensor, slice_latents: int = 0, check: Check = unchecked) -> Tensor:
        """The mean and the log-variance (B, 32, t, H / 8, W / 8) of the latents of x (B, 3, T, H, W)."""
        batch, _, frames, height, width = x.shape
        if frames % TEMPORAL != 1 or height % SPATIAL or width % SPATIAL:
            raise ValueError(f"{frames} frames of {width}x{height}: only 4 n + 1 of multiples of 8 have latents")
        size = 2 * self.config.latent, (frames - 1) // TEMPORAL + 1, height // SPATIAL, width // SPATIAL
        y = torch.empty(batch, *size, dtype=self.dtype, device=x.device)
        return self._through(self.encoder, x, slice_latents, y, check)

    def decode(self, z: Tensor, slice_latents: int = 0, check: Check = unchecked) -> Tensor:
        """(B, 16, t, h, w), unscaled -> (B, 3, T, 8 h, 8 w), nominally in [-1, 1]."""
        batch, _, latents, height, width = z.shape
        size = self.config.colours, TEMPORAL * (latents - 1) + 1, height * SPATIAL, width * SPATIAL
        y = torch.empty(batch, *size, dtype=self.dtype, device=z.device)
        return self._through(self.decoder, z, slice_latents, y, check)

    def _through(self, half: Encoder | Decoder, x: Tensor, slice_latents: int, y: Tensor, check: Check) -> Tensor:
        """Fill y with what `half` makes of the frames of x."""
        stages = half.stages(slice_latents or TEMPORAL * x.shape[2])
        for at, (frame, _) in enumerate(through(stages, self._frames(x), Clip(), check)):
            y[:, :, at] = frame
        return y

    def _frames(self, x: Tensor) -> Frames:
        for at, frame in enumerate(x.unbind(2)):
            yield frame.to(self.dtype).contiguous(memory_format=torch.channels_last), at == x.shape[2] - 1
