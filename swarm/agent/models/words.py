"""Words of a text and BM25 over them: how the built-in model compares two texts without a network.

Deterministic by construction: no hash order, no randomness, ties go to the first document.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_APOSTROPHE: Final = re.compile(r"(?<=\w)['’](?=\w)")
_COMMON: Final = frozenset(
    """
    a an the this that these those it its is are was were be been am do does did i me my mine you your
    we us our he she him her they them their of to in on at by for with from as and or but if so then
    can could would should will shall may might must have has had please just some any there here
    what whats which who how let lets go get got want need like about into up out now
    """.split()  # noqa: SIM905 - forty quoted words are no easier to read
)
"""Words that say nothing about which action is meant."""


def words(text: str) -> list[str]:
    """The words of a text, in order: lower case, without marks; CJK is split into characters."""
    plain = _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text))
    return [word.casefold() for word in _WORD.findall(plain)]


def name_words(name: str) -> list[str]:
    """The words of an identifier: SEND_MAIL, sendMail and send-mail are all ``send mail``."""
    return words(_CAMEL.sub(" ", name).replace("_", " ").replace("-", " "))


def stem(word: str) -> str:
    """A word without its commonest English endings, so that ``playing`` meets ``plays``."""
    if not word.isascii() or len(word) < 4:
        return word
    for ending, instead in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def terms(text_words: Sequence[str]) -> list[str]:
    """What BM25 compares: stems of the words that say something, and pairs of neighbours in CJK."""
    found = [stem(word) for word in text_words if word not in _COMMON]
    pairs = [a + b for a, b in pairwise(text_words) if _is_cjk(a) and _is_cjk(b)]
    return found + pairs


def _is_cjk(word: str) -> bool:
    return len(word) == 1 and re.match(f"[{_CJK}]", word) is not None


class Bm25:
    """BM25 over documents given as lists of terms, or as weights by term.

    `scores(query)` answers, for each document, in 0..1: the part of the best score the query could
    have that the document reaches. Terms that no document has count most, which is what lets an
    unrelated question score low everywhere; `lenient` lets them count as a term of one document, which
    a collection of a few short texts needs.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[str] | Counter[str]],
        *,
        k1: float = 0.5,
        b: float = 0.5,
        lenient: bool = False,
    ) -> None:
        self._counts = [Counter(document) for document in documents]
        self._lengths = [sum(counts.values()) for counts in self._counts]
        self._mean = (sum(self._lengths) / len(self._lengths)) if self._lengths else 0.0
        self._k1, self._b, self._least_in = k1, b, int(lenient)
        self._in = Counter(term for counts in self._counts for term in counts)

    def idf(self, term: str) -> float:
        holding = max(self._least_in, self._in.get(term, 0))
        return math.log(1 + (len(self._counts) - holding + 0.5) / (holding + 0.5))

    def scores(self, query: Sequence[str]) -> list[float]:
        asked = list(dict.fromkeys(query))
        weights = {term: self.idf(term) for term in asked}
        best = sum(weights.values()) * (self._k1 + 1)
        if best <= 0:
            return [0.0] * len(self._counts)
        found = []
        for counts, length in zip(self._counts, self._lengths, strict=True):
            norm = self._k1 * (1 - self._b + self._b * length / self._mean) if self._mean else self._k1
            score = sum(
                weights[term] * counts[term] * (self._k1 + 1) / (counts[term] + norm)
                for term in asked
                if term in counts
            )
            found.append(score / best)
        return found
