"""The bounds of an agent's mail: what may wait for it, and how much it may announce. Held by the database."""

from __future__ import annotations

import msgspec


class MailBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What may wait for an agent: messages, their bytes (content as JSON), and for how long the oldest may. And
    how often it may announce within any 60 seconds, and how many bytes at once."""

    inbox_messages: int = 10_000
    inbox_bytes: int = 64 * 2**20
    inbox_ms: int = 7 * 86_400_000
    announce_per_minute: int = 60
    announce_bytes: int = 256 * 2**10
