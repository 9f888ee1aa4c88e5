"""Whether a document is a character: every error at once, a sentence each.

All three generations of elizaOS files pass: v0 (`user`, `lore`, `clients`, `modelProvider`), v1
(`messageExamples` as a list of lists), v2 (`{examples: […]}`) and mixtures. Unknown keys are kept; plugins
that nobody here knows are warnings. None stands for "not given".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from swarm.character.document import copy_document, kind_of
from swarm.character.plugins import plugin_warnings
from swarm.ids import is_uuid

Check = Callable[[Any, str], Iterator[str]]


class Validation(NamedTuple):
    """What a validation found. `errors` and `warnings` are sentences; `valid` means no errors."""

    valid: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def validate_character(document: Mapping[str, Any]) -> Validation:
    """Check a document without changing it. Never raises for what is in it."""
    copied, malformed = copy_document(document)
    errors = (*malformed, *document_errors(copied))
    plugins = copied.get("plugins")
    names = [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list) else []
    return Validation(not errors, errors, tuple(plugin_warnings(names)))


def document_errors(document: Mapping[str, Any]) -> Iterator[str]:
    """The errors of a copied document, name and bio first."""
    yield from _name(document.get("name"))
    yield from _bio(document.get("bio"))
    for key, check in _CHECKS.items():
        value = document.get(key)
        if value is not None:
            yield from check(value, key)


def _name(name: Any) -> Iterator[str]:
    if name is None or (isinstance(name, str) and not name.strip()):
        yield "Character name is required"
    elif not isinstance(name, str):
        yield f"name must be text, not {kind_of(name)}"


def _bio(bio: Any) -> Iterator[str]:
    match bio:
        case None:
            yield "Character bio is required"
        case str():
            if not bio.strip():
                yield "Character bio is required"
        case list():
            wrong = [error for n, item in enumerate(bio) for error in _text(item, f"bio[{n}]")]
            yield from wrong
            if not wrong and not any(item.strip() for item in bio):
                yield "Character bio is required"
        case _:
            yield f"bio must be text or a list of texts, not {kind_of(bio)}"


def _id(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{where} must be text, not {kind_of(value)}"
    elif not is_uuid(value):
        yield f"{where} must be a UUID, not {value!r} (leave it out to derive it from the name)"


def _text(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{where} must be text, not {kind_of(value)}"


def _texts(value: Any, where: str) -> Iterator[str]:
    yield from _each(value, where, "texts", _text)


def _text_or_texts(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield from _each(value, where, "texts", _text)


def _names(value: Any, where: str) -> Iterator[str]:
    yield from _each(value, where, "names", _non_empty)


def _non_empty(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, str) and not value.strip():
        yield f"{where} must not be empty"
    else:
        yield from _text(value, where)


def _table(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} must be a table of keys, not {kind_of(value)}"


def _settings(value: Any, where: str) -> Iterator[str]:
    yield from _table(value, where)
    if isinstance(value, dict) and value.get("secrets") is not None:
        yield from _secrets(value["secrets"], f"{where}.secrets")


def _secrets(value: Any, where: str) -> Iterator[str]:
    yield from _table(value, where)
    if isinstance(value, dict):
        for key, secret in value.items():
            if isinstance(secret, dict | list):
                yield f"{where}.{key} must be text, a number or a flag, not {kind_of(secret)}"


def _style(value: Any, where: str) -> Iterator[str]:
    yield from _table(value, where)
    if isinstance(value, dict):
        for key in ("all", "chat", "post"):
            if value.get(key) is not None:
                yield from _texts(value[key], f"{where}.{key}")


def _templates(value: Any, where: str) -> Iterator[str]:
    yield from _table(value, where)
    if isinstance(value, dict):
        for key, template in value.items():
            yield from _text(template, f"{where}.{key}")


def _text_or_table(value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, str | dict):
        yield f"{where} must be text or a table of keys, not {kind_of(value)}"


def _texts_or_tables(value: Any, where: str) -> Iterator[str]:
    yield from _each(value, where, "texts", _text_or_table)


def _conversations(value: Any, where: str) -> Iterator[str]:
    yield from _each(value, where, "conversations", _conversation)


def _conversation(value: Any, where: str) -> Iterator[str]:
    match value:
        case {"examples": list() as lines} | (list() as lines):
            for number, line in enumerate(lines):
                yield from _line(line, f"{where}[{number}]")
        case _:
            yield f"{where} must be a list of messages or {{examples: [messages]}}, not {kind_of(value)}"


def _line(line: Any, where: str) -> Iterator[str]:
    if not isinstance(line, dict):
        yield f"{where} must be a message with name and content, not {kind_of(line)}"
        return
    speaker = line.get("name", line.get("user"))
    if speaker is None:
        yield f"{where} must say who speaks (name, or user in older files)"
    else:
        yield from _text(speaker, f"{where}.name")
    match line.get("content"):
        case None:
            yield f"{where} must have a content"
        case str():
            pass
        case {"text": text} if text is not None:
            yield from _text(text, f"{where}.content.text")
        case dict():
            pass
        case other:
            yield f"{where}.content must be text or a table of keys, not {kind_of(other)}"


def _each(value: Any, where: str, what: str, check: Check) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from check(item, f"{where}[{number}]")
    else:
        yield f"{where} must be a list of {what}, not {kind_of(value)}"


_CHECKS: dict[str, Check] = {
    "id": _id,
    "username": _text,
    "system": _text,
    "topics": _texts,
    "adjectives": _texts,
    "messageExamples": _conversations,
    "postExamples": _texts_or_tables,
    "style": _style,
    "settings": _settings,
    "secrets": _secrets,
    "plugins": _names,
    "knowledge": _texts_or_tables,
    "templates": _templates,
    "lore": _text_or_texts,
    "clients": _names,
    "modelProvider": _text,
}
