"""Subjects with wildcards: `*` is one token, a final `>` is one or more.

NATS decides on the real wire; these few functions say the same for the memory bus, for permissions and
before anything is sent, because a space or a line end in a subject would speak NATS's protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from bus.errors import BadMessage

_WORD: Final = r"[!-)+\-/-=?-~]+"  # printable ASCII but for `*`, `.` and `>`
_SUBJECT: Final = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_PATTERN: Final = re.compile(rf"(?:(?:{_WORD}|\*)(?:\.(?:{_WORD}|\*))*(?:\.>)?|>)")
MAX_SUBJECT: Final = 1024
"""Longest subject, in characters; a NATS control line holds 4,096 bytes."""


def check_subject(subject: str) -> str:
    """`subject` itself. Raises BadMessage when nothing can be published on it."""
    if len(subject) > MAX_SUBJECT or not _SUBJECT.fullmatch(subject):
        raise BadMessage(f"{subject[:100]!r} is no subject to publish on.", reason="bad_subject")
    return subject


def check_pattern(pattern: str) -> str:
    """`pattern` itself. Raises BadMessage when nothing can be subscribed to with it."""
    if len(pattern) > MAX_SUBJECT or not _PATTERN.fullmatch(pattern):
        raise BadMessage(f"{pattern[:100]!r} is no subject to subscribe to.", reason="bad_subject")
    return pattern


def covers(pattern: str, other: str) -> bool:
    """Whether everything that `other` (a subject or a pattern) stands for, `pattern` stands for too."""
    ours, theirs = pattern.split("."), other.split(".")
    for index, word in enumerate(ours):
        if word == ">":
            return len(theirs) > index
        if index >= len(theirs) or theirs[index] == ">":
            return False
        if word != "*" and word != theirs[index]:
            return False
    return len(ours) == len(theirs)


def any_covers(patterns: Iterable[str], other: str) -> bool:
    return any(covers(pattern, other) for pattern in patterns)
