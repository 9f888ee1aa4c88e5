"""What looks like a secret, and out of what is written: the last door before a log line leaves the process.

What holds a secret hides it in its repr; this is for the text of somebody else's error, which may hold a URL with
its password or the very key that was refused. Known values go wherever they stand, and what has the unmistakable
look of a live key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

SHORTEST: Final = 6
"""A shorter value would take ordinary words away."""
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


class Redaction:
    """What one process must not write. `hide` may be called at any time."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._values: re.Pattern[str] | None = None

    def hide(self, values: Iterable[object]) -> None:
        """These texts, from now on. Anything else than a text of some length is left alone."""
        known = {value for value in values if isinstance(value, str) and len(value) >= SHORTEST}
        if known <= self._known:
            return
        self._known |= known
        longest_first = sorted(self._known, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first)))

    def hide_settings(self, settings: Mapping[str, Any]) -> None:
        """The values under keys that say so, such as ``OPENAI_API_KEY``, and all under ``secrets``."""
        self.hide(value for key, value in settings.items() if names_a_secret(key))
        if isinstance(inner := settings.get("secrets"), Mapping):
            self.hide(inner.values())

    def __call__(self, text: str) -> str:
        if self._values is not None:
            text = self._values.sub(REDACTED, text)
        return without_live_keys(text)


def names_a_secret(key: str) -> bool:
    """Whether the words of a key (`apiKey`, `API_KEY`, `api-key`) say that its value is a secret."""
    words = [word.lower() for word in _WORD.findall(key)]
    if not words:
        return False
    return words[-1] in _SECRET_WORDS or (words[-1] in {"key", "keys"} and bool(_KEY_OF & set(words[:-1])))


def looks_live(text: str) -> bool:
    """Whether a text contains what only a real credential looks like."""
    return _LIVE_KEY.search(text) is not None


def without_live_keys(text: str) -> str:
    """The text with what only a real credential looks like taken out."""
    return _LIVE_KEY.sub(REDACTED, text)
