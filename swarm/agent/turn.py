"""A turn: what an agent does with one message. Read this first.

    before      plugins' hooks may change the message, or reject it
    remember    the message joins the room's memory
    compose     what is known: recent messages, facts, what the providers say
    decide      is the agent meant, and is an answer called for?
    choose      which actions, if any: by name, by simile, by model; never by a part of a name
    act         run them in order, each in its own bounds, each told what the earlier ones did
    respond     from what the actions did, else from the text model
    commit      handled mark, memories, outgoing messages and the task's outcome: one transaction
    after       the final piece to who listens; plugins' hooks, told what was answered
    evaluate    off the path: nobody waits for it

Each step takes the turn in hand, adds to it and passes it on. What a plugin brings is contained where
it is called (`containment.py`): it can fail its own part, never the message. What escapes from here is
the store's or our own, and the mailbox decides whether the turn is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from bus.subjects import DOWN_TEMPLATE
from swarm.agent.acting import act
from swarm.agent.answering import respond
from swarm.agent.choosing import choose
from swarm.agent.committing import commit
from swarm.agent.composing import compose, remember
from swarm.agent.deciding import decide
from swarm.agent.evaluating import evaluate
from swarm.agent.hand import MessageResult, Say, TurnInHand, say_nothing
from swarm.agent.hooks import after, before
from swarm.components import Message
from swarm.tracing.tracer import Span

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

Step = Callable[[TurnInHand], Awaitable[None]]


STEPS: Final[tuple[Step, ...]] = (before, remember, compose, decide, choose, act, respond)


async def take_turn(
    runtime: AgentRuntime, message: Message, *, delivery: int | None = None, say: Say = say_nothing
) -> MessageResult:
    """Handle one message and say what became of it. Effects are written at the commit, all or none.

    Raises StoreError for what the store refuses; a store that is down is waited for at the commit.
    """
    turn = TurnInHand(runtime, message, delivery, say)
    with turn.current(), _traced(turn) as span:
        await runtime.events.emit("turn:started", message=message, run_id=turn.run_id)
        for step in STEPS:
            await step(turn)
            if turn.rejected:
                break
        await commit(turn)
        if turn.status == "handled":
            await turn.pieces.end()
            await after(turn)
            evaluate(turn)
        if turn.rejected or turn.status != "handled":
            span.fail("rejected" if turn.rejected else turn.status)
    result = turn.result()
    runtime.metrics.count_turn(result, message.kind)
    log.debug("%s %s in %.1f ms", message.kind, result.status, result.milliseconds)
    await runtime.events.emit(
        "turn:ended",
        message=message,
        run_id=turn.run_id,
        status=result.status,
        milliseconds=result.milliseconds,
    )
    return result


def _traced(turn: TurnInHand) -> AbstractContextManager[Span]:
    """The turn as a span, below whoever sent the message."""
    name, message = turn.runtime.name, turn.message
    return turn.runtime.tracer.span(
        f"invoke_agent {name}",
        "consumer",
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": name,
            "gen_ai.conversation.id": message.room,
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.destination.template": DOWN_TEMPLATE,
            "messaging.message.id": message.id,
            "swarm.message.kind": message.kind,
            "swarm.run.id": turn.run_id,
        },
        parent=message.traceparent,
    )
