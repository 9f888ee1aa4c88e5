"""Messages on their way: accepted, dispatched, looked at, ended."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from swarm.bounds import MailBounds

DeliveryState = Literal["accepted", "dispatched", "handled", "expired", "dead"]
LedgerKind = Literal["tell", "announce", "task", "result", "notice"]


class Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a message says: `text` for people and models, `data` for programs. JSON-able throughout."""

    text: str = ""
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message to be accepted. `to` is an address: a name, an id, ``role:x``, ``parent``, ``children``,
    ``all``, ``group:x``. `id` is minted before the first try, so that trying again never makes a second message."""

    id: str
    to: str
    room: str
    content: Content
    kind: LedgerKind = "tell"
    in_reply_to: str | None = None
    expires_at: int | None = None
    hops: int = 0
    origin: str | None = None
    """The id of the message that began this conversation; None: this one does. Where the ledger has the message
    because of which this one is sent, it sets both itself."""
    traceparent: str | None = None


class Receipt(msgspec.Struct, frozen=True):
    """The message is accepted: committed, with these recipients (names) fixed."""

    id: str
    recipients: tuple[str, ...]


class Dispatch(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery claimed by the coordinator, on its way to one instance of `recipient`.

    `delivery` is the row's number: deliveries of one (sender, room, recipient) are in order by it.
    `attempt` counts dispatches from 1; `crashes` counts the recipients that died with it in hand.
    """

    delivery: int
    id: str
    sender: str
    recipient: str
    room: str
    kind: LedgerKind
    content: Content
    attempt: int
    crashes: int = 0
    in_reply_to: str | None = None
    expires_at: int | None = None
    hops: int = 0
    origin: str | None = None
    traceparent: str | None = None
    accepted_at: int = 0


class DeliveryView(msgspec.Struct, frozen=True):
    to: str
    state: DeliveryState
    attempts: int
    reason: str | None = None
    handled_at: int | None = None


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """A message and what became of each delivery of it."""

    id: str
    sender: str
    to: str
    room: str
    kind: LedgerKind
    content: Content
    accepted_at: int
    deliveries: tuple[DeliveryView, ...] = ()


class InboxView(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's offline queue: what waits, how long the oldest has, and the first messages in order. `waiting`
    counts all; `bytes` (of content as JSON) and the bounds are for messages and tasks: results and notices are
    outside of them."""

    agent: str
    waiting: int
    in_flight: int
    bytes: int = 0
    bounds: MailBounds = MailBounds()
    oldest_at: int | None = None
    first: tuple[MessageView, ...] = ()


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that the ledger ended without its being handled; its sender has been sent a notice."""

    delivery: int
    id: str
    sender: str
    recipient: str
    state: Literal["expired", "dead"]
    reason: str
