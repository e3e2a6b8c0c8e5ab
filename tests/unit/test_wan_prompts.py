"""Prompts become the tokens that transformers would make of them, with a small tokenizer of UMT5's kind."""

import io
import random
from pathlib import Path

import pytest
import regex
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Regex, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as PeerTokenizer
from tokenizers.models import Unigram
from transformers import T5Tokenizer

from engine.pipelines.wan.prompts import MOST_TOKENS, SENTINELS, Tokenizer, clean
from engine.weights.load import CheckpointMismatch

WORDS = ["a", "cat", "runs", "over", "green", "hills", "and", "sees", "the", "sun,", "shining", "on", "water:"]
WORDS += ["猫", "在", "草地上", "奔跑", "café", "naïve", "Привет", "мир", "[web]"]
PROMPTS = [
    "",
    "a cat",
    "The cat, the CAT and the c a t!",
    "猫在草地上奔跑，sun",
    "Привет, café мир 猫!",
    "a 🫠🫠 cat",
    "🫠",
    "𠀋𡈽 cat𠀋",
    "a🫠b🫠 🫠c",
    "see [web] water[web]",
    "<not_a_symbol> </ s> <extra_id_300>",
    "cat " * 5_000,
]
SYMBOLS = ["</s>", "a </s> cat", "a</s>cat", "<pad>", "<extra_id_0> cat <extra_id_299>", "<unk><unk> <s>", "cat <pad> "]
SYMBOLS += ["▁cat", "cat▁"]


def trained(**ids: int) -> bytes:
    """As UMT5's was: nothing normalised, no space dropped, bytes for what the vocabulary does not hold."""
    shuffled = random.Random(0)
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(shuffled.choices(WORDS, k=8)) for _ in range(1_000)]),
        model_writer=model,
        model_type="unigram",
        vocab_size=340,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["[web]"],
        minloglevel=2,
        **{"pad_id": 0, "eos_id": 1} | ids,
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def model() -> bytes:
    """With the symbols in UMT5's order."""
    return trained(bos_id=2, unk_id=3)


@pytest.fixture(scope="module")
def tokenizer(model: bytes) -> Tokenizer:
    return Tokenizer(model)


@pytest.fixture(scope="module")
def published(model: bytes) -> PeerTokenizer:
    """What the published tokenizer.json makes of such a model."""
    vocabulary = pieces(model) + [(f"<extra_id_{n}>", 0.0) for n in reversed(range(SENTINELS))]
    peer = PeerTokenizer(Unigram(vocabulary, unk_id=3, byte_fallback=False))
    peer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    peer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    peer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    peer.add_special_tokens(["<pad>", "</s>", "<s>", "<unk>", *(f"<extra_id_{n}>" for n in range(SENTINELS))])
    peer.enable_truncation(MOST_TOKENS)
    return peer


def pieces(model: bytes) -> list[tuple[str, float]]:
    processor = SentencePieceProcessor(model_proto=model)
    return [(processor.id_to_piece(n), processor.get_score(n)) for n in range(processor.get_piece_size())]


@pytest.mark.parametrize("prompt", PROMPTS + SYMBOLS, ids=lambda prompt: prompt[:12])
def test_tokens_are_those_of_the_published_tokenizer(
    prompt: str, tokenizer: Tokenizer, published: PeerTokenizer
) -> None:
    assert tokenizer(clean(prompt)).ids == published.encode(clean(prompt)).ids


def test_tokens_of_any_mixture_are_those_of_the_published_tokenizer(
    tokenizer: Tokenizer, published: PeerTokenizer
) -> None:
    shuffled = random.Random(1)
    parts = [*WORDS, *"abcdeghin.,!<>/", "🫠", "𠀋", " ", " ", " ", "</s>", "<extra_id_7>", "&amp;", "\n"]
    for _ in range(500):
        text = clean("".join(shuffled.choices(parts, k=12)))
        assert tokenizer(text).ids == published.encode(text).ids, text


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:12])
def test_tokens_are_those_of_transformers(prompt: str) -> None:
    """Whose T5Tokenizer takes the third token for the unknown one, whatever the model says; so here it is that."""
    model = trained(bos_id=-1, unk_id=2)
    vocabulary = pieces(model) + [(f"<extra_id_{n}>", 0.0) for n in reversed(range(SENTINELS))]
    peer = T5Tokenizer(vocab=vocabulary, extra_ids=SENTINELS)
    wanted = peer(clean(prompt), truncation=True, max_length=MOST_TOKENS)["input_ids"]
    assert Tokenizer(model)(clean(prompt)).ids == wanted


def test_an_empty_prompt_is_its_end_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer("").ids == [1]


def test_a_long_prompt_is_cut_and_says_by_how_much(tokenizer: Tokenizer) -> None:
    whole, cut = tokenizer(" ".join(["cat"] * 511)), tokenizer(" ".join(["cat"] * 5_000))
    assert (len(whole.ids), whole.cut) == (512, 0)
    assert (len(cut.ids), cut.cut) == (512, 5_000 - 511)
    assert cut.ids[-1] == 1


def test_all_ids_lie_below_the_size(tokenizer: Tokenizer) -> None:
    assert max(tokenizer("<extra_id_0> <extra_id_299>").ids) == tokenizer.size - 1


def test_a_file_of_the_model_is_read(tmp_path: Path, model: bytes, tokenizer: Tokenizer) -> None:
    (tmp_path / "spiece.model").write_bytes(model)
    assert Tokenizer.of(tmp_path / "spiece.model")("a cat") == tokenizer("a cat")


@pytest.mark.parametrize("damage", ["empty", "cut short", "no model"])
def test_a_broken_file_is_refused_by_name(damage: str, tmp_path: Path, model: bytes) -> None:
    content = {"empty": b"", "cut short": model[:-3], "no model": b"<html>no such file</html>"}
    (tmp_path / "spiece.model").write_bytes(content[damage])
    with pytest.raises(CheckpointMismatch, match=r"^spiece\.model: it is no model of sentencepiece"):
        Tokenizer.of(tmp_path / "spiece.model")


def test_a_model_without_an_end_is_not_umt5s() -> None:
    with pytest.raises(CheckpointMismatch, match="no </s>"):
        Tokenizer(trained(bos_id=2, unk_id=3, eos_id=-1))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a \n\n cat\t\u3000runs \xa0 ", "a cat runs"),
        ("salt &amp; pepper &lt;3", "salt & pepper <3"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("cafÃ© naÃ¯ve", "café naïve"),
        ("“so” it’s", '"so" it\'s'),
        ("ＡＢＣ，ﬁne", "ABC,fine"),
        ("a\x07b\ufeffc\x1b[31md", "abcd"),
        ("\ud83d\ude00 \ud83d", "😀 \ufffd"),
        ("👩\u200d👩\u200d👧 猫", "👩\u200d👩\u200d👧 猫"),
        (" \n ", ""),
    ],
)
def test_text_is_cleaned_as_upstream_does(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_white_space_is_what_upstreams_expression_takes_for_it() -> None:
    for number in (*range(0x20, 0x3100), 0xFEFF):
        assert clean(f"x{chr(number)}y").count(" ") == len(regex.findall(r"\s", clean(f"x{chr(number)}y")))
