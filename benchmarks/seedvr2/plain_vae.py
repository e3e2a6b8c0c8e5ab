"""SeedVR2's video autoencoder stated plainly, the yardstick for ours: 3-D convolutions of (B, C, T, H, W).

As research code has it: the clip's first frame put in front by `cat` before every convolution, group norm through two
copies of the layout, and beyond 5 frames (encoding) or 2 latents (decoding) 4 frames or 1 latent at a time, while every
convolution remembers the last frames it saw. The state dict has the published names.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.seedvr2.norm import EPS
from engine.models.seedvr2.vae_config import VAEConfig

Part = Literal["whole", "first", "next"]  # of a clip: what is being worked on
Size = tuple[int, int, int]  # in time, rows, columns


class Conv(nn.Conv3d):
    def __init__(self, inputs: int, outputs: int, kernel: Size = (3, 3, 3), stride: Size = (1, 1, 1), pad: int = 1):
        super().__init__(inputs, outputs, kernel, stride, (0, pad, pad))
        self.memory: Tensor | None = None

    def forward(self, x: Tensor, part: Part = "whole") -> Tensor:
        taps = self.kernel_size[0]
        if taps > 1:
            past = [self.memory] if part == "next" and self.memory is not None else [x[:, :, :1]] * (taps - 1)
            x = torch.cat([*past, x], dim=2)
            if part != "whole":
                self.memory = x[:, :, self.stride[0] - taps :].clone()
        return super().forward(x)


class Norm(nn.GroupNorm):
    """Of each frame."""

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, EPS)

    def forward(self, x: Tensor) -> Tensor:
        frames = super().forward(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (len(x), -1)).transpose(1, 2).contiguous()


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = Norm(groups, inputs), Conv(inputs, outputs)
        self.norm2, self.conv2 = Norm(groups, outputs), Conv(outputs, outputs)
        self.conv_shortcut = Conv(inputs, outputs, (1, 1, 1), pad=0) if inputs != outputs else None

    def forward(self, x: Tensor, part: Part) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)), part)
        h = self.conv2(F.silu(self.norm2(h)), part)
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x, part))


class Attention(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = Norm(groups, channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, part: Part) -> Tensor:
        rows = self.group_norm(x).permute(0, 2, 3, 4, 1).flatten(2, 3)  # (B, T, H W, C)
        z = F.scaled_dot_product_attention(self.to_q(rows), self.to_k(rows), self.to_v(rows))
        return x + self.to_out[0](z).unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)


class Mid(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Residual(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([Attention(channels, groups)])

    def forward(self, x: Tensor, part: Part) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, part), part)
        return self.resnets[1](x, part)


class Down(nn.Module):
    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        taps, step = (3, 2) if temporal else (1, 1)
        self.conv = Conv(channels, channels, (taps, 3, 3), (step, 2, 2), pad=0)

    def forward(self, x: Tensor, part: Part) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)), part)


class Up(nn.Module):
    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.upscale_conv = nn.Conv3d(channels, 4 * frames * channels, 1)
        self.conv = Conv(channels, channels)

    def forward(self, x: Tensor, part: Part) -> Tensor:
        y = self.upscale_conv(x).unflatten(1, (2, 2, self.frames, -1))  # (B, 2, 2, z, C, T, H, W)
        y = y.permute(0, 4, 5, 3, 6, 1, 7, 2).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        if self.frames == 2 and part != "next":
            y = torch.cat((y[:, :, :1], y[:, :, 2:]), dim=2)
        return self.conv(y, part)


class Level(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int, depth: int, **after: nn.Module | None) -> None:
        """`after`: a further layer under the name it has."""
        super().__init__()
        self.resnets = nn.ModuleList([Residual(inputs if n == 0 else outputs, outputs, groups) for n in range(depth)])
        self.after = [name for name, layer in after.items() if layer is not None]
        for name in self.after:
            self.add_module(name, nn.ModuleList([after[name]]))

    def forward(self, x: Tensor, part: Part) -> Tensor:
        for layer in [*self.resnets, *(self.get_submodule(f"{name}.0") for name in self.after)]:
            x = layer(x, part)
        return x


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, groups = config.channels, config.groups
        self.conv_in = Conv(config.colours, channels[0])
        levels = zip((channels[0], *channels), channels, (False, True, True, None), strict=False)
        self.down_blocks = nn.ModuleList(
            Level(i, o, groups, 2, downsamplers=None if temporal is None else Down(o, temporal))
            for i, o, temporal in levels
        )
        self.mid_block = Mid(channels[-1], groups)
        self.conv_norm_out, self.conv_out = Norm(groups, channels[-1]), Conv(channels[-1], 2 * config.latent)

    def forward(self, x: Tensor, part: Part) -> Tensor:
        x = self.conv_in(x, part)
        for level in self.down_blocks:
            x = level(x, part)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x, part))), part)


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        channels, groups = config.channels[::-1], config.groups
        self.conv_in = Conv(config.latent, channels[0])
        self.mid_block = Mid(channels[0], groups)
        levels = zip((channels[0], *channels), channels, (2, 2, 1, None), strict=False)
        self.up_blocks = nn.ModuleList(
            Level(i, o, groups, 3, upsamplers=None if frames is None else Up(o, frames)) for i, o, frames in levels
        )
        self.conv_norm_out, self.conv_out = Norm(groups, channels[-1]), Conv(channels[-1], config.colours)

    def forward(self, z: Tensor, part: Part) -> Tensor:
        x = self.mid_block(self.conv_in(z, part), part)
        for level in self.up_blocks:
            x = level(x, part)
        return self.conv_out(F.silu(self.conv_norm_out(x)), part)


class PlainVAE(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)

    @torch.inference_mode()
    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> the mean of the latents (B, 16, t, H / 8, W / 8)."""
        return _by_parts(self.encoder, x, 5, 4).chunk(2, dim=1)[0]

    @torch.inference_mode()
    def decode(self, z: Tensor) -> Tensor:
        """(B, 16, t, h, w) -> (B, 3, T, 8 h, 8 w)."""
        return _by_parts(self.decoder, z, 2, 1)


def _by_parts(half: nn.Module, x: Tensor, first: int, size: int) -> Tensor:
    if x.shape[2] <= first:
        return half(x, "whole")
    done = [half(x[:, :, :first], "first"), *(half(part, "next") for part in x[:, :, first:].split(size, dim=2))]
    for conv in half.modules():
        if isinstance(conv, Conv):
            conv.memory = None
    return torch.cat(done, dim=2)
