"""Names of files for people and for messages: both are text, while a file's name is any bytes but NUL and /."""

from __future__ import annotations

import os
from urllib.parse import quote_from_bytes, unquote_to_bytes


def shown(name: str) -> str:
    """A name as people can read it, on one line: odd bytes and control characters are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def wire_path(path: str) -> str:
    """A path as it can be said in a message: itself, or a ``file:`` URI if its bytes are not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(path))
    return path


def from_wire(path: str) -> str:
    """The path of this machine that `wire_path` made a message of."""
    if path.startswith("file:"):
        return os.fsdecode(unquote_to_bytes(path.removeprefix("file://").removeprefix("file:")))
    return path


def wire_name(name: str) -> str:
    """A key for a file that is ASCII throughout, and different for different names."""
    return quote_from_bytes(os.fsencode(name))
