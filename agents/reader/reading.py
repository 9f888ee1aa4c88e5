"""Reading one file: from a path to a `Reading`, the value that a report is made of.

Runs in a thread, bounded in bytes and in time; every kind of file ends in a Reading with a state and,
unless it was read whole, a sentence that says why not.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from .languages import binary_kind, decode, language_of
from .opening import FileState, Piece, from_wire, open_piece
from .structure import Part, structure_of
from .wording import key_terms, telling_sentences

LEX_LIMIT: Final = 192_000
"""Characters that are lexed; what follows still counts for size and lines, and for Python's structure."""
PARTS: Final = 60
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


class PartOf(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    name: str
    depth: int = 0
    detail: str = ""


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`path` as it was asked for. `size` in bytes; `lines` None when the file was not read whole. `parts`
    are the first of `parts_total`. `by` is who found the sentences: ``local``, or a provider's name."""

    path: str
    state: FileState
    language: str = ""
    encoding: str = ""
    size: int = 0
    lines: int | None = None
    parts: tuple[PartOf, ...] = ()
    parts_total: int = 0
    terms: tuple[tuple[str, int], ...] = ()
    sentences: tuple[str, ...] = ()
    reason: str = ""
    by: str = "local"


def read(path: str, seconds: float = 20.0) -> tuple[Reading, str]:
    """The reading, and the text it is from (for a model that reads on). Blocks: call it in a thread.
    After `seconds` it keeps what it has found by then."""
    until = time.monotonic() + seconds
    local = from_wire(path)
    piece = open_piece(local)
    if piece.state not in ("read", "sampled"):
        return Reading(path=path, state=piece.state, size=piece.size, reason=piece.reason), ""
    name = clean(os.path.basename(local))  # noqa: PTH119 — a PurePath would drop a trailing dot
    cut = piece.state == "sampled"
    decoded = decode(piece.head, cut)
    if decoded is None:
        kind = binary_kind(name, piece.head)
        return Reading(
            path=path, state="binary", language=kind, size=piece.size, reason=f"Not text: {kind}."
        ), ""
    text, encoding = decoded
    if cut and "\n" in text:
        text = text[: text.rindex("\n") + 1]  # half a line would be half a sentence
    return _read_text(path, name, piece, text, encoding, until), text


def _read_text(path: str, name: str, piece: Piece, text: str, encoding: str, until: float) -> Reading:
    language = language_of(name, text)
    tokens = list(_lexed(language.lexer, text[:LEX_LIMIT], until))
    parts, trouble = structure_of(language.name, text, tokens)
    if piece.state == "sampled":
        trouble = ""  # half a document never parses; that is no news
    terms = key_terms(language.name, text[:LEX_LIMIT], tokens)
    sentences = telling_sentences(language.name, text[:LEX_LIMIT], tokens, terms)
    if encoding == "latin-1":
        trouble = f"{trouble} It is not UTF-8 and was read as Latin-1.".strip()
    return Reading(
        path=path,
        state=piece.state,
        language=language.name,
        encoding=encoding,
        size=piece.size,
        lines=_count_lines(text) if piece.state == "read" else None,
        parts=tuple(_shown(part) for part in parts[:PARTS]),
        parts_total=len(parts),
        terms=tuple((clean(term), count) for term, count in terms),
        sentences=tuple(clean(sentence) for sentence in sentences),
        reason=" ".join(filter(None, (piece.reason, trouble))),
    )


def _lexed(lexer: Any, text: str, until: float) -> Iterator[tuple[int, Any, str]]:
    if lexer is None:
        return
    for number, token in enumerate(lexer.get_tokens_unprocessed(text)):
        if number % 512 == 0 and time.monotonic() > until:
            return
        yield token


def _count_lines(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n"))


def _shown(part: Part) -> PartOf:
    return PartOf(part.kind, clean(part.name)[:120], part.depth, clean(part.detail)[:80])


def clean(text: str) -> str:
    """Without what no message and no database takes (NUL, half of a surrogate pair) nor any reader wants."""
    return _CONTROL.sub(" ", text)
