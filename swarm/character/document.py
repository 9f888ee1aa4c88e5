"""A character as it is written: a mapping that JSON can hold, with camelCase keys.

Everything that comes from outside is copied here once, so that nothing given is changed or shared, and
checked for what neither JSON nor a database can hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from swarm.errors import CharacterError

MAX_DEPTH: Final = 32
FIELDS: Final = {
    "id": "id",
    "name": "name",
    "username": "username",
    "system": "system",
    "bio": "bio",
    "topics": "topics",
    "adjectives": "adjectives",
    "message_examples": "messageExamples",
    "post_examples": "postExamples",
    "style": "style",
    "settings": "settings",
    "secrets": "secrets",
    "plugins": "plugins",
    "knowledge": "knowledge",
    "templates": "templates",
    "lore": "lore",
    "clients": "clients",
    "model_provider": "modelProvider",
}
"""Every known key: its name in Python and its name in files."""

KNOWN_KEYS: Final = tuple(FIELDS.values())
STYLE_KEYS: Final = ("all", "chat", "post")


class InvalidCharacter(CharacterError):
    """``Character validation failed: e1, e2``: every error at once. `source` is filled in by the loader."""

    def __init__(self, errors: list[str], source: str = "") -> None:
        super().__init__(f"Character validation failed: {', '.join(errors)}", reason="invalid_character")
        self.errors = tuple(errors)
        self.source = source


def kind_of(value: Any) -> str:
    """What a value is, in words for a sentence: ``a number``."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a table of keys"
    return f"a {type(value).__name__}"


def copy_document(document: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """A fresh, independent copy with known keys in camelCase, and an error for each thing JSON cannot hold."""
    errors: list[str] = []
    copied: dict[str, Any] = {}
    for key, value in document.items():
        if not isinstance(key, str):
            errors.append(f"the key {key!r} must be text, not {kind_of(key)}")
            continue
        spelled = FIELDS.get(key, key)
        if spelled in copied:
            errors.append(f"{spelled} is given twice: as {key} too")
            continue
        errors.extend(_text_errors(key, "a key"))
        copied[spelled] = _copy(value, spelled, 1, errors)
    return copied, errors


def _copy(value: Any, where: str, depth: int, errors: list[str]) -> Any:
    if depth > MAX_DEPTH:
        errors.append(f"{where} is nested deeper than {MAX_DEPTH} levels")
        return None
    match value:
        case None | bool() | int():
            return value
        case str():
            errors.extend(_text_errors(value, where))
            return str.__str__(value)
        case float():
            if not math.isfinite(value):
                errors.append(f"{where} must be a finite number")
            return value
        case Mapping():
            return dict(_copy_items(value, where, depth, errors))
        case list() | tuple():
            return [_copy(item, f"{where}[{n}]", depth + 1, errors) for n, item in enumerate(value)]
    errors.append(f"{where} must be something that JSON can hold, not {kind_of(value)}")
    return None


def _copy_items(
    value: Mapping[Any, Any], where: str, depth: int, errors: list[str]
) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(key, str):
            errors.extend(_text_errors(key, f"a key of {where}"))
            yield key, _copy(item, f"{where}.{key}", depth + 1, errors)
        else:
            errors.append(f"the key {key!r} of {where} must be text, not {kind_of(key)}")


def _text_errors(text: str, where: str) -> Iterator[str]:
    if "\0" in text:
        yield f"{where} contains a NUL character, which no database stores"
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        yield f"{where} contains half a character (a lone surrogate)"
