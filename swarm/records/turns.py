"""What a turn leaves behind."""

from __future__ import annotations

from typing import Literal

import msgspec

from swarm.records.memories import Memory
from swarm.records.messages import Outgoing
from swarm.records.tasks import TaskOutcome


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """All that one turn leaves behind, committed at once or not at all.

    `delivery` is None for an ask, which is not in the ledger: then only memories and messages are
    written. `attempt` fences tasks: a stale attempt changes nothing.
    """

    delivery: int | None
    attempt: int = 0
    instance: str = ""
    memories: tuple[Memory, ...] = ()
    outgoing: tuple[Outgoing, ...] = ()
    outcome: TaskOutcome | None = None
    dead: str | None = None
    """Given up: the delivery dies with this reason, its task fails, its sender gets a notice."""


class Committed(msgspec.Struct, frozen=True):
    """What became of a turn at commit.

    ``committed``     everything is written; ring for `recipients` (names)
    ``duplicate``     the delivery was handled before; nothing written
    ``out_of_order``  an earlier delivery of this (sender, room) is not handled yet; nothing written
    ``stale``         the delivery expired or died, or a newer attempt at the task has begun; nothing written
    """

    status: Literal["committed", "duplicate", "out_of_order", "stale"]
    recipients: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    """The ids of outgoing messages whose address names nobody; a notice of each is on its way to the sender."""
