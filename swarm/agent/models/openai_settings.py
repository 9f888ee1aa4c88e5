"""Where an OpenAI-compatible endpoint is, with which key and models: one frozen value.

The key is in no repr, log line or error. Names and defaults are those of the environment variables that
OpenAI, Ollama, vLLM and llama.cpp users know; nothing here reads the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from swarm.errors import ConfigError

DEFAULT_BASE_URL: Final = "https://api.openai.com/v1"
DEFAULT_MODEL: Final = "gpt-4o-mini"
DEFAULT_EMBEDDING_MODEL: Final = "text-embedding-3-small"


class OpenAISettings(msgspec.Struct, frozen=True, kw_only=True):
    """`timeout` bounds one call in seconds, retries and streaming included; `max_wait` one pause
    between tries. `object_mode` is how JSON is asked for; ``json_schema`` falls back to the prompt
    where a server refuses it.
    """

    base_url: str = DEFAULT_BASE_URL
    api_key: str = ""
    small_model: str = DEFAULT_MODEL
    large_model: str = DEFAULT_MODEL
    embedding_model: str = DEFAULT_EMBEDDING_MODEL
    timeout: float = 60.0
    connect_timeout: float = 5.0
    tries: int = 3
    first_wait: float = 0.5
    max_wait: float = 20.0
    max_bytes: int = 8 * 1024 * 1024
    object_mode: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    def __post_init__(self) -> None:
        parts = _split(self.base_url)
        if parts is None:
            raise ConfigError(
                "OPENAI_BASE_URL must be an http(s) URL with a host, such as http://host:8080/v1."
            )
        if parts.username or parts.password:
            raise ConfigError(
                "OPENAI_BASE_URL must not carry a user or password; put the key in OPENAI_API_KEY."
            )
        if not self.api_key.isascii() or any(c.isspace() or not c.isprintable() for c in self.api_key):
            raise ConfigError(
                "OPENAI_API_KEY holds a space, a line end or a sign that no key has; set it anew."
            )
        if self.tries < 1 or min(self.timeout, self.connect_timeout) <= 0:
            raise ConfigError("A model endpoint needs at least one try and timeouts above zero.")

    def __repr__(self) -> str:
        return f"OpenAISettings(host={self.host!r}, small={self.small_model!r}, large={self.large_model!r})"

    @property
    def host(self) -> str:
        """``host`` or ``host:port``: what errors may name."""
        parts = urlsplit(self.base_url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def secure(self) -> bool:
        return urlsplit(self.base_url).scheme == "https"

    @property
    def on_loopback(self) -> bool:
        name = urlsplit(self.base_url).hostname or ""
        return name in {"localhost", "::1"} or name.startswith("127.")

    @classmethod
    def from_mapping(cls, settings: Mapping[str, object]) -> OpenAISettings:
        """From an agent's settings or an environment that somebody else has read; "" counts as absent.

        ``OPENAI_MODEL`` names both text models, ``OPENAI_SMALL_MODEL`` and ``OPENAI_LARGE_MODEL`` one each.
        """

        def word(key: str, default: str) -> str:
            return str(settings.get(key) or default).strip()

        both = word("OPENAI_MODEL", DEFAULT_MODEL)
        return cls(
            base_url=word("OPENAI_BASE_URL", DEFAULT_BASE_URL),
            api_key=word("OPENAI_API_KEY", ""),
            small_model=word("OPENAI_SMALL_MODEL", both),
            large_model=word("OPENAI_LARGE_MODEL", both),
            embedding_model=word("OPENAI_EMBEDDING_MODEL", DEFAULT_EMBEDDING_MODEL),
        )


def configured(settings: Mapping[str, object]) -> bool:
    """Whether the settings name an endpoint: a key, or a base URL (local servers need no key)."""
    return bool(settings.get("OPENAI_API_KEY") or settings.get("OPENAI_BASE_URL"))


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname else None
