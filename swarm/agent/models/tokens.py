"""How many tokens a text is, without a tokenizer: each class of characters has its own rate.

Four characters a token holds for English only (66 % off on Chinese), and real tokenizers download
their tables at first use. Tokenizers split words first, so the estimate walks over runs: a word of
ASCII letters, a run of digits, one CJK character, a run of other letters, a sign. It is meant for
budgets; a provider's own count, where there is one, corrects it: `Correction`.
"""

from __future__ import annotations

import math
import re
from itertools import repeat
from typing import Final

_RUN: Final = re.compile(
    r"(?P<ascii>[A-Za-z]+(?![^\W\d_]))|(?P<digits>\d+)|(?P<han>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])"
    r"|(?P<kana>[\u3040-\u30ff]+)|(?P<hangul>[\uac00-\ud7af]+)|(?P<letters>[^\W\d_\u3040-\u9fff\uac00-\ud7af]+)"
    r"|(?P<newlines>\n\s*)|(?P<space>[^\S\n]+)|(?P<sign>[^\w\s]+|_)"
)
_WORDS: Final = re.compile(r"[A-Za-z]+").findall
_DIGITS: Final = re.compile(r"\d+").findall
_NEWLINES: Final = re.compile(r"\n\s*").findall
_WIDE_SPACES: Final = re.compile(r"(?<!\s)[^\S\n]{2,}").findall
_SIGNS: Final = re.compile(r"[^\w\s]+|_").findall
_SHORT: Final = 7
"""ASCII letters of a word that are one token; every 4 more are another."""


def estimate_tokens(text: str) -> int:
    """Tokens of `text`, about as current tokenizers count them.

    Against o200k: within 19 % on the 20 texts it was fitted to (English, code, JSON, logs, eight
    languages), within 27 % on 7 others, of which Polish, whose words are dearer than they look, is worst.
    """
    if text.isascii():
        return math.ceil(_ascii_cost(text))
    return math.ceil(sum(_cost(m.lastgroup or "", m.group()) for m in _RUN.finditer(text)))


def _ascii_cost(text: str) -> float:
    """The same sum for plain ASCII, class by class instead of run by run: a third of the time, at each turn."""
    return (
        sum(1 if len(run) <= _SHORT else _cost("ascii", run) for run in _WORDS(text))
        + sum(map(_cost, repeat("digits"), _DIGITS(text)))
        + len(_NEWLINES(text))
        + len(_WIDE_SPACES(text)) * 0.5
        + sum(1 if len(run) == 1 else _cost("sign", run) for run in _SIGNS(text))
    )


def _cost(kind: str, run: str) -> float:
    size = len(run)
    match kind:
        case "ascii":
            return 1 + max(0, size - _SHORT) / 4
        case "digits":
            return math.ceil(size / 3)
        case "han":
            return 0.77
        case "kana":
            return size * 0.75
        case "hangul":
            return max(1.0, size * 0.7)
        case "letters":
            return 1 + max(0, size - 4) / 3
        case "newlines":
            return 1
        case "space":
            return 0 if size == 1 else 0.5
        case _:
            return max(1.0, size * 0.6)


class Correction:
    """Learns from real usage by how much the estimate is off for one model, and corrects it.

    The factor is a running mean that moves a tenth at a time and stays in 0.5..2, so that one odd
    count (a cached prompt, tool definitions) does not throw it.
    """

    def __init__(self) -> None:
        self.factor = 1.0

    def estimate(self, text: str) -> int:
        return math.ceil(estimate_tokens(text) * self.factor)

    def learn(self, text: str, counted: int) -> None:
        guessed = estimate_tokens(text)
        if guessed > 0 and counted > 0:
            self.factor += (min(2.0, max(0.5, counted / guessed)) - self.factor) * 0.1
