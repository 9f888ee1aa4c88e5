"""The commit of a turn: everything it leaves behind, at once or not at all.

A store that is down is waited for, because the work is done and must not be done again; trying again is
safe, since a commit that had gone through answers ``duplicate``.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from bus.errors import Refused
from swarm.agent.answering import task_outcome
from swarm.agent.delegating import write_progress
from swarm.agent.hand import TurnInHand
from swarm.errors import StoreDown, StoreError, Unknown
from swarm.failpoints import reached
from swarm.records import Turn

log = logging.getLogger(__name__)

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 5.0


async def commit(turn: TurnInHand) -> None:
    """Waits for the store for as long as the turn may take. Raises StoreError when the store refuses."""
    wait, lost = FIRST_WAIT, False
    leaves = _leaves_behind(turn)
    with suppress(StoreError):  # how far it was; the outcome follows
        await write_progress(turn)
    while True:
        try:
            reached("agent.commit.before")
            committed = await turn.runtime.adapter.commit(leaves)
            break
        except (StoreDown, Unknown) as error:
            lost = True
            log.warning("the turn is done but the store is not there to take it (%s); trying again", error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)
    reached("agent.commit.after")
    # After a lost answer a duplicate may be our own first try, whose recipients a sweep will find.
    mine = committed.status == "committed" or (lost and committed.status == "duplicate")
    turn.rung = committed.recipients
    if not mine:
        log.info("nothing was written: the delivery is %s", committed.status)
        turn.status = "duplicate" if committed.status == "committed" else committed.status
    elif turn.rejected:
        turn.status = "rejected"
    if turn.status == "handled":
        turn.memories.clear()
        turn.outgoing.clear()
    turn.runtime.peers.ring(turn.rung)
    if mine:
        turn.runtime.embeddings.wake(leaves.memories)


async def commit_late(turn: TurnInHand) -> None:
    """Write what hooks and evaluators said and remembered after the commit; with nothing, do nothing.

    Their ids are derived from the message, so a second time makes no second row. What the store refuses is said.
    """
    if not turn.memories and not turn.outgoing:
        return
    memories, outgoing = tuple(turn.memories), tuple(turn.outgoing)
    turn.memories.clear()
    turn.outgoing.clear()
    try:
        committed = await turn.runtime.adapter.commit(
            Turn(delivery=None, instance=turn.runtime.instance, memories=memories, outgoing=outgoing)
        )
    except (StoreError, Refused) as error:
        log.warning("what was said after the turn is lost: %s", error)
        turn.runtime.metrics.count_failure("store", "after the turn")
        return
    turn.runtime.peers.ring(committed.recipients)
    turn.runtime.embeddings.wake(memories)


def _leaves_behind(turn: TurnInHand) -> Turn:
    return Turn(
        delivery=turn.delivery,
        attempt=turn.message.attempt,
        instance=turn.runtime.instance,
        memories=tuple(turn.memories),
        outgoing=tuple(turn.outgoing),
        outcome=task_outcome(turn),
    )
