"""Wan2.1's video autoencoder: frames in [-1, 1] to latents (B, 16, t, H / 8, W / 8) and back.

4 n + 1 frames make n + 1 latents. Nothing sees later frames, so a clip streams through, a few frames at a time: what is
held does not grow with its length. Names in the state dict are those of the original checkpoint; `prepare` folds the
weights once they are in.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.causal import CausalConv, Clip, Layer
from engine.models.checks import Check, unchecked
from engine.models.pointwise import PointConv
from engine.models.streams import Frames, Stage, through
from engine.models.wan.still import StillClip
from engine.models.wan.vae_blocks import Attention, Downsample, Head, ResidualBlock, TimeConv, Upsample
from engine.models.wan.vae_config import COLOURS, LATENT, MEAN, SPATIAL, STD, TEMPORAL, WanVAEConfig


class Encoder(nn.Module):
    """Frames to what `conv1` of the whole makes the mean and the log-variance of."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = CausalConv(COLOURS, width)
        self.downsamples = nn.ModuleList(
            [
                *(ResidualBlock(width, width), ResidualBlock(width, width), Downsample(width, temporal=False)),
                *(ResidualBlock(width, 2 * width), ResidualBlock(2 * width, 2 * width)),
                *(Downsample(2 * width, temporal=True),),
                *(ResidualBlock(2 * width, 4 * width), ResidualBlock(4 * width, 4 * width)),
                *(Downsample(4 * width, temporal=True),),
                *(ResidualBlock(4 * width, 4 * width), ResidualBlock(4 * width, 4 * width)),
            ]
        )
        self.middle = _middle(4 * width)
        self.head = Head(4 * width, 2 * LATENT)

    def stages(self) -> list[Stage]:
        blocks = [*self.downsamples]
        return _stages(
            (2, [self.conv1, *blocks[:3]]),
            (2, blocks[3:6]),
            (2, blocks[6:9]),
            (2, [*blocks[9:], *self.middle, self.head]),
        )


class Decoder(nn.Module):
    """What `conv2` of the whole makes of latents, to frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = CausalConv(LATENT, 4 * width)
        self.middle = _middle(4 * width)
        self.upsamples = nn.ModuleList(
            [
                *(ResidualBlock(4 * width, 4 * width) for _ in range(3)),
                Upsample(4 * width, temporal=True),
                ResidualBlock(2 * width, 4 * width),
                *(ResidualBlock(4 * width, 4 * width) for _ in range(2)),
                Upsample(4 * width, temporal=True),
                *(ResidualBlock(2 * width, 2 * width) for _ in range(3)),
                Upsample(2 * width, temporal=False),
                *(ResidualBlock(width, width) for _ in range(3)),
            ]
        )
        self.head = Head(width, COLOURS)

    def stages(self) -> list[Stage]:
        """Every convolution over time gets its frames by twos, and none meet whose size does not ask for it."""
        blocks = [*self.upsamples]
        return _stages(
            (2, [self.conv1, *self.middle, *blocks[:3]]),
            (1, blocks[3:7]),
            (1, blocks[7:11]),
            (2, [*blocks[11:], self.head]),
        )


class WanVAE(nn.Module):
    """Both halves. `check` is called before every layer of every two frames and may raise: nothing stays behind."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.width)
        self.conv1 = PointConv(2 * LATENT, 2 * LATENT)
        self.conv2 = PointConv(LATENT, LATENT)
        self.decoder = Decoder(config.width)

    def prepare(self) -> None:
        """Bring the published weights into the form that the layers use, in place. To be called once."""
        for module in [*self.modules()]:
            if isinstance(module, CausalConv | PointConv | TimeConv | Downsample | Upsample):
                module.prepare()

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.conv1.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.encoder.conv1.weight.device

    def encode(self, frames: Iterable[Tensor], check: Check = unchecked) -> Tensor:
        """4 n + 1 frames (B, 3, H, W) in [-1, 1] -> float32 (B, 16, n + 1, H / 8, W / 8), normalised; none is drawn.

        H and W are multiples of 8. Raises ValueError for other sizes, and for another number once the frames end.
        """
        return self._latents(map(self._placed, frames), Clip(), check)

    def encode_still(self, picture: Tensor, frames: int, check: Check = unchecked) -> Tensor:
        """`encode` of a picture (B, 3, H, W) and grey (0.0) after it, `frames` in all, without repeating itself."""
        first = self._placed(picture)
        return self._latents(chain([first], repeat(torch.zeros_like(first), frames - 1)), StillClip(), check)

    def decode(self, z: Tensor, check: Check = unchecked) -> Iterator[Tensor]:
        """Normalised latents (B, 16, t, h, w) -> float32 frames (B, 3, 1, 8 h, 8 w) in [-1, 1], 4 t - 3 in all.

        Each comes as soon as it is done, and asking for no more of them ends the work.
        """
        for frame in self.unclamped(z, check):
            yield frame.clamp_(-1, 1)[:, :, None]

    def unclamped(self, z: Tensor, check: Check = unchecked) -> Iterator[Tensor]:
        """`decode` to frames (B, 3, 8 h, 8 w) before they are clamped."""
        mean, std = (torch.tensor(told, device=self.device)[:, None, None, None] for told in (MEAN, STD))
        z = z.to(self.device, torch.float32) * std + mean
        latents = (self.conv2(self._channels_last(frame)) for frame in z.unbind(2))
        for frame, _ in through(self.decoder.stages(), _until_last(latents), Clip(), check):
            yield frame.float()

    def _latents(self, frames: Iterable[Tensor], clip: Clip, check: Check) -> Tensor:
        weight, bias = self.conv1.weight[:LATENT], self.conv1.bias[:LATENT]  # without the log-variance
        made = through(self.encoder.stages(), _until_last(_clips(frames)), clip, check)
        mu = torch.stack([F.conv2d(x, weight, bias).float() for x, _ in made], 2)
        mean, std = (torch.tensor(told, device=mu.device)[:, None, None, None] for told in (MEAN, STD))
        return mu.sub_(mean).div_(std)

    def _placed(self, frame: Tensor) -> Tensor:
        height, width = frame.shape[-2:]
        if height % SPATIAL or width % SPATIAL:
            raise ValueError(f"a frame of {width}x{height}: only multiples of {SPATIAL} have latents")
        return self._channels_last(frame)

    def _channels_last(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)


def _middle(channels: int) -> nn.ModuleList:
    return nn.ModuleList([ResidualBlock(channels, channels), Attention(channels), ResidualBlock(channels, channels)])


def _stages(*stages: tuple[int, Sequence[nn.Module]]) -> list[Stage]:
    return [(size, cast(Sequence[Layer], layers)) for size, layers in stages]


def _clips(frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """The frames, as long as they make whole latents. Raises ValueError at the end, and before their last is used."""
    count = 0
    for frame in frames:
        count += 1
        yield frame
    if count % TEMPORAL != 1:
        raise ValueError(f"{count} frames: only {TEMPORAL} n + 1 have latents")


def _until_last(frames: Iterator[Tensor]) -> Frames:
    """Each frame, and whether it is the last: one is always read ahead."""
    held = next(frames, None)
    while held is not None:
        ahead = next(frames, None)
        yield held, ahead is None
        held = ahead
