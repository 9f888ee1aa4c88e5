"""What counts as a secret in a character, and how it is kept out of everything shown, stored or logged.

A secret is what stands under `secrets` or `settings.secrets`; a text under a key that says so
(`OPENAI_API_KEY`, `twitterPassword`) in `settings` or under an unknown key; and, wherever it stands, a
text with the unmistakable look of a live key. The last rule exists because a public character file
carried one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from swarm.redaction import REDACTED, looks_live, names_a_secret, without_live_keys

_PROSE: Final = frozenset(
    [
        "id",
        "name",
        "username",
        "system",
        "bio",
        "topics",
        "adjectives",
        "messageExamples",
        "postExamples",
        "style",
        "knowledge",
        "templates",
        "lore",
        "clients",
        "modelProvider",
        "plugins",
    ]
)
"""Keys under which only the look of a value counts: an example may well have a key named `token`."""


class Sealed(dict[str, Any]):
    """A mapping of secrets: an ordinary dict, but its repr and str name keys only."""

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {REDACTED!r}" for key in self) + "}"

    __str__ = __repr__


class GuardedSettings(dict[str, Any]):
    """An agent's settings: an ordinary dict, but its repr and str leave secrets out."""

    def __repr__(self) -> str:
        return repr(_open(self))

    __str__ = __repr__


def is_secret(key: str, value: Any) -> bool:
    """Whether a setting is a secret, by its name or by its look. Empty values, flags and placeholders are not."""
    if not value or isinstance(value, bool):
        return False
    if isinstance(value, str):
        if value.startswith(("${", "{{")) and value.endswith("}"):
            return False
        return names_a_secret(key) or looks_live(value)
    return names_a_secret(key)


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """A fresh copy of a character's document without any secret: what may be stored, sent and shown.

    Doing it twice gives the same, so a version computed from it holds after a round through the store.
    """
    return {
        key: _prose(value) if key in _PROSE else _open(value)
        for key, value in document.items()
        if key != "secrets" and not (key not in _PROSE and is_secret(key, value))
    }


def find_secrets(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """`(where, why)` for each secret that stands outside of `secrets` and `settings.secrets`."""
    for key, value in document.items():
        if key != "secrets":
            yield from _find(value, key, key, by_name=key not in _PROSE)


def _find(value: Any, key: str, where: str, *, by_name: bool) -> Iterator[tuple[str, str]]:
    match value:
        case str() if looks_live(value):
            yield where, "it looks like a live key"
        case _ if by_name and key != "secrets" and is_secret(key, value):
            yield where, "its name says it is a secret"
        case dict():
            for inner, item in value.items():
                if inner != "secrets":
                    yield from _find(item, inner, f"{where}.{inner}", by_name=by_name)
        case list():
            for number, item in enumerate(value):
                yield from _find(item, key, f"{where}[{number}]", by_name=by_name)


def _open(value: Any) -> Any:
    match value:
        case dict():
            return {
                key: _open(item)
                for key, item in value.items()
                if key != "secrets" and not is_secret(key, item)
            }
        case list():
            return [_open(item) for item in value]
    return _prose(value)


def _prose(value: Any) -> Any:
    match value:
        case str():
            return without_live_keys(value)
        case dict():
            return {key: _prose(item) for key, item in value.items()}
        case list():
            return [_prose(item) for item in value]
    return value
