"""What `python -m benchmarks.wan` times: each piece of work by diffusers and by us, from the same weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat

import torch
from torch import Tensor

from benchmarks.card import counted
from benchmarks.turns import Work
from benchmarks.wan import peers
from benchmarks.wan.networks import CPU, build_dit, build_vae, dit_weights, vae_weights
from builder.tiny import wan_networks as tiny
from engine.models.wan.config import DiTConfig
from engine.models.wan.umt5 import UMT5Config
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import VAE, WanVAEConfig
from engine.pipelines.wan.sampling import Denoiser

GUIDANCE = 5.0
TIMESTEP = 700.0
Size = tuple[int, int, int]  # frames, rows, columns


@dataclass(frozen=True, slots=True)
class Sizes:
    """latent, decoded: of latents. encoded, still: of frames, the latter one picture and grey after it.

    lengths: tokens of the prompt and of what guidance leads away from.
    """

    dit: DiTConfig
    vae: WanVAEConfig
    text: UMT5Config
    latent: Size
    decoded: Size
    encoded: Size
    still: Size
    steps: int
    lengths: tuple[int, int]


FULL = Sizes(
    dit=DiTConfig("t2v", dim=768, hidden=4480, heads=6, layers=8, inputs=16),
    vae=VAE,
    text=UMT5Config(vocab=tiny.TEXT.vocab, dim=4096, inner=1024, heads=16, hidden=2048, layers=4),
    latent=(5, 30, 52),
    decoded=(3, 30, 52),
    encoded=(9, 240, 416),
    still=(81, 96, 160),
    steps=20,
    lengths=(60, 126),
)
QUICK = replace(
    FULL,
    dit=DiTConfig("t2v", dim=256, hidden=512, heads=2, layers=2, inputs=16, text_dim=64),
    vae=WanVAEConfig(16),
    text=tiny.TEXT,
    latent=(2, 8, 10),
    decoded=(2, 8, 10),
    encoded=(5, 64, 80),
    still=(33, 32, 48),
    steps=3,
)


@dataclass(frozen=True, slots=True)
class Case:
    """work: ways of doing it by name, of which the first is the judge. operations: of diffusers'. remark: what else
    there is to say of what came of them.
    """

    title: str
    work: Mapping[str, Work]
    operations: int
    remark: Callable[[Mapping[str, Tensor]], str] = lambda made: ""


def step(sizes: Sizes, dtypes: list[torch.dtype]) -> Case:
    """One guided step. Ours has the keys and values of both prompts from before the first step, as in the pipeline."""
    x, prompts = _noise(sizes), _prompts(sizes)
    work: dict[str, Work] = {}
    for dtype in dtypes:
        theirs = peers.transformer(sizes.dit, dit_weights(sizes.dit), dtype, CPU)
        rows = [peers.padded(prompt, sizes.dit.text_len).to(dtype) for prompt in prompts]
        work[f"theirs {named(dtype)}"] = partial(_their_step, theirs, x.to(dtype)[None], rows)
        net = build_dit(sizes.dit, dtype)
        contexts = [net.context(prompt.to(dtype)) for prompt in prompts]
        denoiser = Denoiser(net, contexts, GUIDANCE, None, dtype)
        work[f"ours {named(dtype)}"] = partial(denoiser.velocity, x, TIMESTEP, batched=True, check=_nothing)
    return Case(f"guided step, {_told(sizes)}", work, 2 * dit_operations(sizes))


def forward(sizes: Sizes, dtypes: list[torch.dtype]) -> Case:
    """One pass, the prompt's keys and values being there as well."""
    x, prompt = _noise(sizes), _prompts(sizes)[0]
    work: dict[str, Work] = {}
    for dtype in dtypes:
        theirs = peers.transformer(sizes.dit, dit_weights(sizes.dit), dtype, CPU)
        rows = peers.padded(prompt, sizes.dit.text_len).to(dtype)
        work[f"theirs {named(dtype)}"] = partial(peers.velocity, theirs, x.to(dtype)[None], TIMESTEP, rows)
        net = build_dit(sizes.dit, dtype)
        work[f"ours {named(dtype)}"] = partial(net, x.to(dtype)[None], TIMESTEP, [net.context(prompt.to(dtype))])
    return Case(f"forward, {_told(sizes)}", work, dit_operations(sizes))


def decode(sizes: Sizes, dtypes: list[torch.dtype]) -> Case:
    z = torch.randn(1, 16, *sizes.decoded)
    work: dict[str, Work] = {}
    for dtype in dtypes:
        theirs = peers.autoencoder(sizes.vae, vae_weights(sizes.vae), dtype, CPU)
        work[f"theirs {named(dtype)}"] = partial(peers.decode, theirs, z)
        work[f"ours {named(dtype)}"] = partial(_decoded, build_vae(sizes.vae, dtype), z)
    return Case(f"decode, width {sizes.vae.width}, {_shape(sizes.decoded)}", work, decode_operations(sizes))


def encode(sizes: Sizes, dtypes: list[torch.dtype]) -> Case:
    x = torch.rand(1, 3, *sizes.encoded) * 2 - 1
    work: dict[str, Work] = {}
    for dtype in dtypes:
        theirs = peers.autoencoder(sizes.vae, vae_weights(sizes.vae), dtype, CPU)
        work[f"theirs {named(dtype)}"] = partial(peers.encode, theirs, x)
        work[f"ours {named(dtype)}"] = partial(build_vae(sizes.vae, dtype).encode, x.unbind(2))
    operations = encode_operations(sizes, sizes.encoded)
    return Case(f"encode, width {sizes.vae.width}, {_shape(sizes.encoded)}", work, operations)


def still(sizes: Sizes, dtypes: list[torch.dtype]) -> Case:
    """The condition of image-to-video: ours of the frames as they come, and with steady states reused."""
    frames, height, width = sizes.still
    picture = torch.rand(1, 3, height, width) * 2 - 1
    video = torch.cat([picture[:, :, None], torch.zeros(1, 3, frames - 1, height, width)], dim=2)
    work: dict[str, Work] = {}
    for dtype in dtypes:
        theirs = peers.autoencoder(sizes.vae, vae_weights(sizes.vae), dtype, CPU)
        work[f"theirs {named(dtype)}"] = partial(peers.encode, theirs, video)
        net = build_vae(sizes.vae, dtype)
        work[f"plainly {named(dtype)}"] = partial(net.encode, video.unbind(2))
        work[f"ours {named(dtype)}"] = partial(net.encode_still, picture, frames)

    def remark(made: Mapping[str, Tensor]) -> str:
        plainly, reused = our_still_operations(sizes)
        same = all(torch.equal(*(made[f"{way} {named(dtype)}"] for way in ("plainly", "ours"))) for dtype in dtypes)
        told = f"ours: {plainly / 1e9:.0f} GFLOP plainly, {reused / 1e9:.0f} with steady states reused"
        return f"{told}; {'the same bits' if same else 'OTHER BITS'}"

    operations = encode_operations(sizes, sizes.still)
    return Case(f"condition, width {sizes.vae.width}, {_shape(sizes.still)}", work, operations, remark)


CASES: dict[str, Callable[[Sizes, list[torch.dtype]], Case]] = {
    "step": step,
    "forward": forward,
    "decode": decode,
    "encode": encode,
    "condition": still,
}


def dit_operations(sizes: Sizes) -> int:
    """Of one pass by diffusers."""
    with torch.device("meta"):
        net = peers.empty_transformer(sizes.dit)
        x, rows = _noise(sizes)[None], torch.empty(1, sizes.dit.text_len, sizes.dit.text_dim)
        return counted(lambda: peers.velocity(net, x, TIMESTEP, rows))


def decode_operations(sizes: Sizes, latent: Size | None = None) -> int:
    with torch.device("meta"):
        net = peers.empty_autoencoder(sizes.vae)
        return counted(lambda: net.decode(torch.empty(1, 16, *(latent or sizes.decoded))))


def encode_operations(sizes: Sizes, size: Size) -> int:
    with torch.device("meta"):
        net = peers.empty_autoencoder(sizes.vae)
        return counted(lambda: net.encode(torch.empty(1, 3, *size)))


def our_still_operations(sizes: Sizes) -> tuple[int, int]:
    """Of the condition, frame by frame and with steady states reused."""
    frames, height, width = sizes.still
    with torch.device("meta"):
        net, picture = WanVAE(sizes.vae), torch.empty(1, 3, height, width)
        net.prepare()
        grey = repeat(torch.zeros_like(picture), frames - 1)
        plainly = counted(lambda: net.encode(chain([picture], grey)))
        return plainly, counted(lambda: net.encode_still(picture, frames))


def named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _noise(sizes: Sizes) -> Tensor:
    return torch.randn(16, *sizes.latent)


def _prompts(sizes: Sizes) -> list[Tensor]:
    return [torch.randn(length, sizes.dit.text_dim) for length in sizes.lengths]


def _their_step(net: torch.nn.Module, x: Tensor, rows: list[Tensor]) -> Tensor:
    positive, negative = (peers.velocity(net, x, TIMESTEP, prompt) for prompt in rows)
    return (negative + GUIDANCE * (positive - negative))[0]


def _decoded(net: WanVAE, z: Tensor) -> Tensor:
    return torch.cat([*net.decode(z)], dim=2)


def _nothing() -> None:
    pass


def _told(sizes: Sizes) -> str:
    count = sum(weight.numel() for weight in dit_weights(sizes.dit).values())
    return f"{count / 1e6:.0f} M parameters, {_shape((16, *sizes.latent))}"


def _shape(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
