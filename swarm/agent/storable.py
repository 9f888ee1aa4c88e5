"""What a plugin brings, made fit for the store and the wire, or refused with a sentence.

Postgres keeps no NUL, UTF-8 no half characters, JSON no objects of ours, and the bus at most 1.25 MiB. What
cannot be kept must fail where it was made: found at the commit, it would fail the whole message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from swarm.errors import PluginError
from swarm.records import Content

MAX_BYTES: Final = 1_000_000
"""Of one text with its data, as JSON."""
MAX_DEPTH: Final = 100
ERROR_CHARS: Final = 2000
_REFUSED: Final = re.compile("[\0\ud800-\udfff]")
_SIGN: Final = "\N{REPLACEMENT CHARACTER}"
_encode: Final = msgspec.json.Encoder().encode


class Unstorable(PluginError):
    """Says what cannot be kept, why, and what to do."""


def clean_text(text: str) -> str:
    """`text` without NUL and half characters: a replacement character stands where they stood."""
    if text.isascii() and "\0" not in text:
        return text
    return _REFUSED.sub(_SIGN, text)


def cut_text(text: str, most: int) -> str:
    """At most `most` characters of it, and the cut is said."""
    if len(text) <= most:
        return text
    return f"{text[:most]}\n… ({len(text) - most:,} more characters were cut)"


def storable(what: str, text: str, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text and the data as they can be kept: cleaned, plain JSON throughout. Raises Unstorable."""
    if not isinstance(text, str) or not isinstance(data, Mapping):
        raise Unstorable(
            f"{what} has a text of type {type(text).__name__} and data of type {type(data).__name__}; "
            "they must be a str and a mapping.",
            reason="bad_result",
        )
    kept = clean_text(text)
    size = _bytes_of(kept)
    _check_size(what, size)
    return kept, _plain(what, data, MAX_BYTES - size) if data else {}


def storable_content(what: str, text: str, data: Mapping[str, Any] | None = None) -> Content:
    """As `storable`, as content."""
    kept, plain = storable(what, text, data or {})
    return Content(text=kept, data=plain)


def plain_value(what: str, value: Any) -> Any:
    """Any value as plain JSON. Raises Unstorable."""
    return _plain(what, {"value": value}, MAX_BYTES)["value"]


def describe(failure: BaseException) -> str:
    """An exception as text that can be stored, whatever its own `str` does."""
    name = type(failure).__name__
    try:
        said = str(failure)
    except Exception:
        said = "(its text cannot be shown)"
    return clean_text(f"{name}: {said}"[:ERROR_CHARS])


def size_of(text: str, data: Mapping[str, Any]) -> int:
    """The bytes of storable text and data, as they are counted against MAX_BYTES."""
    return _bytes_of(text) + (len(_encode(data)) if data else 0)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _plain(what: str, data: Mapping[str, Any], room: int) -> dict[str, Any]:
    try:
        encoded = _encode(data if isinstance(data, dict) else dict(data))
    except UnicodeEncodeError:
        encoded = _encode(_cleaned(dict(data)))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise Unstorable(
            f"{what} cannot be written as JSON ({error}); return plain text, numbers, lists and mappings.",
            reason="not_json",
        ) from error
    _check_size(what, len(encoded), room)
    plain: dict[str, Any] = msgspec.json.decode(encoded)
    if b"\\u0000" in encoded:
        plain = _cleaned(plain)
    try:
        packed = len(msgspec.msgpack.encode(plain))  # floats take more bytes on the wire than as text
    except (OverflowError, TypeError, ValueError, RecursionError) as error:
        raise Unstorable(
            f"{what} holds what no message can carry ({error}); send it as text.", reason="not_json"
        ) from error
    _check_size(what, packed, room)
    return plain


def _check_size(what: str, size: int, room: int = MAX_BYTES) -> None:
    if size > room:
        raise Unstorable(
            f"{what} has {size:,} bytes and at most {max(room, 0):,} fit; put it in a file or the store and say "
            "where it is.",
            reason="too_large",
        )


def _cleaned(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        return str(type(value).__name__)
    match value:
        case str():
            return clean_text(value)
        case Mapping():
            return {
                clean_text(key) if isinstance(key, str) else key: _cleaned(item, depth + 1)
                for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_cleaned(item, depth + 1) for item in value]
    return value
