"""Dead letters: deliveries that expired or died, with what is needed to judge them and to send them again."""

from __future__ import annotations

from typing import Literal

import msgspec

from swarm.records import Content, LedgerKind


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that ended badly. `delivery` is its number, `id` its message's; an announcement may have many.

    `recipient` is the agent's name, or the address that named nobody. `hash` is the sha256 of the content's JSON
    (see `content_json`), as it was when the delivery ended; `error` the last error on the way, where there was one.
    Sent again or dropped it stays, and says by whom and when.
    """

    delivery: int
    id: str
    sender: str
    recipient: str
    to: str
    room: str
    kind: LedgerKind
    content: Content
    state: Literal["expired", "dead"]
    reason: str
    attempts: int
    crashes: int
    hash: str
    accepted_at: int
    ended_at: int
    error: str | None = None
    requeue_of: str | None = None
    requeued_as: str | None = None
    requeued_at: int | None = None
    requeued_by: str | None = None
    dropped_at: int | None = None
    dropped_by: str | None = None


class Requeued(msgspec.Struct, frozen=True):
    """A dead letter was sent again as message `id`, to these (names)."""

    delivery: int
    id: str
    recipients: tuple[str, ...]
