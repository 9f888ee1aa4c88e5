"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

VerdictWord = Literal["ok", "warning", "fault"]
VERDICTS: Final[tuple[VerdictWord, ...]] = ("ok", "warning", "fault")


class Finding(NamedTuple):
    """`text` is what was seen, `remedy` what to do about it; a finding that is ok has none."""

    check: str
    verdict: VerdictWord
    text: str
    remedy: str = ""


def ok(check: str, text: str) -> Finding:
    return Finding(check, "ok", text)


def warning(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, "warning", text, remedy)


def fault(check: str, text: str, remedy: str) -> Finding:
    return Finding(check, "fault", text, remedy)


def worst(findings: Iterable[Finding]) -> VerdictWord:
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default="ok")
