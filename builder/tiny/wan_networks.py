"""What is in the tiny Wan2.1 checkpoints: names and shapes of our own networks, under their original names.

Besides, what published files hold and nobody reads: CLIP's last layer and its text half.
"""

import io
from collections.abc import Callable

import torch
from sentencepiece import SentencePieceTrainer
from torch import Tensor, nn

from builder.tiny.wan_weights import tensor_by_rule
from engine.models.wan.clip import CLIPConfig, CLIPVision
from engine.models.wan.config import DiTConfig, Task
from engine.models.wan.dit import WanDiT
from engine.models.wan.umt5 import UMT5, UMT5Config
from engine.models.wan.vae import WanVAE
from engine.models.wan.vae_config import WanVAEConfig

PIECES, SENTINELS = 320, 300  # of the tokenizer, and those that are added to it
TEXT = UMT5Config(vocab=PIECES + SENTINELS + 20, dim=64, inner=64, heads=2, hidden=128, layers=2)
IMAGE = CLIPConfig(dim=160, heads=2, hidden=320, layers=2)
# 256 is the least width whose rows can be blocks of ggml's K types.
DITS: dict[Task, DiTConfig] = {
    "t2v": DiTConfig("t2v", dim=256, hidden=512, heads=2, layers=2, inputs=16, text_dim=64),
    "i2v": DiTConfig("i2v", dim=256, hidden=512, heads=2, layers=2, inputs=36, text_dim=64, image_dim=160),
}
VAE = WanVAEConfig(width=8)
_LINE = "a cat runs over green hills and sees the sun shining on quiet water while birds fly home in the evening light"


def transformer(task: Task) -> dict[str, Tensor]:
    """All tensors in float32, as those of the other networks."""
    return by_rule(lambda: WanDiT(DITS[task]))


def autoencoder() -> dict[str, Tensor]:
    return by_rule(lambda: WanVAE(VAE))


def text_encoder() -> dict[str, Tensor]:
    return by_rule(lambda: UMT5(TEXT))


def image_encoder() -> dict[str, Tensor]:
    """With its prefix, queries, keys and values in one, and a last layer, norm and head that nobody evaluates."""
    with torch.device("meta"):
        ours = CLIPVision(IMAGE).state_dict()
    shapes = {f"visual.{name}": tuple(tensor.shape) for name, tensor in ours.items() if ".attn.to_" not in name}
    for name, tensor in ours.items():
        if ".attn.to_q." in name:
            rows, *rest = tensor.shape
            shapes[f"visual.{name.replace('to_q', 'to_qkv')}"] = (3 * rows, *rest)
    first, last = "visual.transformer.0.", f"visual.transformer.{IMAGE.layers}."
    shapes |= {name.replace(first, last): shape for name, shape in shapes.items() if name.startswith(first)}
    shapes |= {"visual.post_norm.weight": (IMAGE.dim,), "visual.post_norm.bias": (IMAGE.dim,)}
    shapes |= {"visual.head": (IMAGE.dim, 128)}
    return {name: tensor_by_rule(name, shape) for name, shape in shapes.items()}


def by_rule(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    with torch.device("meta"):
        net = build()
    return {name: tensor_by_rule(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()}


def tokenizer() -> bytes:
    """A model of UMT5's kind: symbols in its order, unigrams, bytes for what the vocabulary does not hold."""
    words, model = _LINE.split(), io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words[i:] + words[:i]) for i in range(len(words))] * 20),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
