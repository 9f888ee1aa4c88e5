"""What counts as a secret in a character, and how it is kept out of everything shown, stored or logged.

A secret is what stands under `secrets` or `settings.secrets`; a text under a key that says so
(`OPENAI_API_KEY`, `twitterPassword`) in `settings` or under an unknown key; and, wherever it stands, a
text with the unmistakable look of a live key. The last rule exists because a public character file
carried one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = frozenset(
    [
        "secret",
        "secrets",
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "token",
        "mnemonic",
        "credential",
        "credentials",
        "apikey",
        "apikeys",
        "privatekey",
        "jwt",
        "cookie",
        "cookies",
    ]
)
_KEY_OF = frozenset(
    [
        "api",
        "private",
        "secret",
        "access",
        "signing",
        "encryption",
        "auth",
        "bot",
        "app",
        "client",
        "service",
        "master",
    ]
)

_LIVE_KEY = re.compile(
    r"""(?x)
      \b(?: sk-[A-Za-z0-9_-]{16,}                      # OpenAI, Anthropic, OpenRouter
          | (?:sk|rk|pk)_live_[A-Za-z0-9]{16,}         # Stripe
          | gh[pousr]_[A-Za-z0-9]{30,} | github_pat_[A-Za-z0-9_]{30,}
          | glpat-[A-Za-z0-9_-]{20,} | hf_[A-Za-z0-9]{30,} | gsk_[A-Za-z0-9]{30,}
          | xox[abeprs]-[A-Za-z0-9-]{10,}              # Slack
          | (?:AKIA|ASIA)[A-Z0-9]{16}\b                # AWS
          | AIza[A-Za-z0-9_-]{35}                      # Google
          | \d{8,10}:AA[A-Za-z0-9_-]{33}               # Telegram
          | [MNO][A-Za-z\d_-]{23,27}\.[\w-]{6}\.[\w-]{27,40}  # Discord
          | eyJ[A-Za-z0-9_-]{10,400}\.eyJ[A-Za-z0-9_-]{10,8000}\.[A-Za-z0-9_-]{10,}  # JWT; bounded: no blow-up
        )
      | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
      | (?<=://)[^\s/:@]*:[^\s/@]+(?=@)                # the password in a URL
    """
)

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


def names_a_secret(key: str) -> bool:
    """Whether the words of a key (`apiKey`, `API_KEY`, `api-key`) say that its value is a secret."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not words:
        return False
    return words[-1] in _SECRET_WORDS or (words[-1] in {"key", "keys"} and bool(_KEY_OF & set(words[:-1])))


def looks_live(text: str) -> bool:
    """Whether a text contains what only a real credential looks like."""
    return _LIVE_KEY.search(text) is not None


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
            return _LIVE_KEY.sub(REDACTED, value)
        case dict():
            return {key: _prose(item) for key, item in value.items()}
        case list():
            return [_prose(item) for item in value]
    return value
