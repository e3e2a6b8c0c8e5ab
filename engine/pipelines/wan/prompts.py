"""A prompt's text -> the tokens that UMT5 was trained with.

The model file of google/umt5-xxl is read by sentencepiece. Wan2.1 however was trained with the tokenizer that
transformers makes of that file, and where the two differ we follow the latter: what the vocabulary does not hold is one
unknown token, however long, rather than a token for each of its bytes; and the tokenizer's own symbols, typed in a
prompt, are those symbols.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import ftfy
from sentencepiece import SentencePieceProcessor

from engine.weights.load import CheckpointMismatch

MOST_TOKENS = 512  # with the one that ends a prompt
SENTINELS = 300  # <extra_id_0> and so on, numbered from the end of the vocabulary backwards
_END = "</s>"
_SYMBOLS = ("<pad>", _END, "<s>", "<unk>")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # sentencepiece's sign for it


def clean(text: str) -> str:
    """As Wan2.1's prompts were cleaned: encodings repaired, HTML's entities resolved, single spaces only."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


@dataclass(frozen=True, slots=True)
class Tokens:
    """ids: at most 512, of which the last ends the prompt. cut: how many more there would have been."""

    ids: list[int]
    cut: int


class Tokenizer:
    """Of a sentencepiece model's bytes. Raises CheckpointMismatch where they are none, or none of UMT5's kind."""

    def __init__(self, model: bytes, source: str = "the tokenizer") -> None:
        self._pieces = _processor(model, source)
        numbers = {symbol: self._pieces.piece_to_id(symbol) for symbol in _SYMBOLS}
        known = {symbol: number for symbol, number in numbers.items() if self._pieces.id_to_piece(number) == symbol}
        if _END not in known or not self._pieces.is_control(known[_END]):
            raise CheckpointMismatch(source, f"it is no tokenizer of UMT5's kind: it has no {_END}")
        count = self._pieces.get_piece_size()
        sentinels = {f"<extra_id_{n}>": count + SENTINELS - 1 - n for n in range(SENTINELS)}
        self._symbols = known | sentinels
        self._end, self._unknown = known[_END], self._pieces.unk_id()
        self._space = self._pieces.piece_to_id(_SPACE)
        self._symbol = re.compile("(" + "|".join(map(re.escape, self._symbols)) + ")")
        self.size = count + SENTINELS

    @classmethod
    def of(cls, path: Path) -> "Tokenizer":
        """Of a file spiece.model. Raises CheckpointMismatch, OSError."""
        return cls(path.read_bytes(), path.name)

    def __call__(self, text: str) -> Tokens:
        """Of a text that is clean."""
        ids = list(self._ids(text))
        most = MOST_TOKENS - 1
        return Tokens([*ids[:most], self._end], max(len(ids) - most, 0))

    def _ids(self, text: str) -> Iterator[int]:
        for part in self._symbol.split(text):
            if part in self._symbols:
                yield self._symbols[part]
            else:
                yield from self._words(part)

    def _words(self, text: str) -> Iterator[int]:
        """A space comes before the first word even where none is written: sentencepiece adds it, but to no words."""
        rest = text[1:] if text.startswith((" ", _SPACE)) else text
        ids = [self._space] if text and not rest else self._pieces.encode(rest)
        for unknown, run in groupby(ids, self._is_unknown):
            yield from [self._unknown] if unknown else run

    def _is_unknown(self, number: int) -> bool:
        return self._pieces.is_byte(number) or number == self._unknown


def _processor(model: bytes, source: str) -> SentencePieceProcessor:
    pieces = SentencePieceProcessor()
    try:
        loaded = pieces.LoadFromSerializedProto(model)
    except RuntimeError:
        loaded = False
    if not loaded:
        raise CheckpointMismatch(source, f"it is no model of sentencepiece, or a damaged one: {len(model)} bytes")
    return pieces
