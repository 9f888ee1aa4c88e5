"""Bounds against loops and storms, as values. The ledger holds them (swarm/sql/migrations/0013_storms.sql)."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from bus.errors import Refused
from swarm.errors import NoAuthority

StormKind = Literal["hops", "conversation", "pair_rate", "quota", "announce_right", "announce_limit"]
LOOP_KINDS: Final = frozenset(get_args(StormKind)) - {"announce_right", "announce_limit"}
"""Who announces too much is refused and named like a storm, but answers nobody."""


class AgentLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent may send; 0 is no bound. Task messages, results and notices count nowhere.

    `conversation_messages`: deliveries caused by one message, over all hops and agents.
    `pair_per_minute`: to one agent that sends back as much (at least half of it) in the same minute.
    `tells_per_minute`: tells and announcements together.
    """

    conversation_messages: int = 20_000
    pair_per_minute: int = 6_000
    tells_per_minute: int = 60_000


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """What was refused of one kind between two agents. `recipient` is empty when it is about the sender alone;
    `text` is the last refusal's sentence, which names the agents; moments are Unix milliseconds."""

    kind: StormKind
    sender: str
    recipient: str
    text: str
    refused: int
    first_at: int
    last_at: int


def refused(said: str) -> Refused:
    """The ledger's ``kind: sentence`` as the error that the sender gets."""
    kind, _, sentence = said.partition(": ")
    if kind == "announce_right":
        return NoAuthority(f"This message is refused: {sentence}.")
    return Refused(f"This message is refused: {sentence}.", reason=kind)
