"""What is done with one message in hand: its turn is run until it has its end, by the recovery policy.

An ask ends in one reply or one error by its deadline. A delivery ends in the ledger: handled, or dead
with its reason; neither a store nor a breaker that makes it wait costs it a try.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from bus.envelope import Envelope, read_body
from bus.errors import BadMessage, BusError, Failed, NobodyThere, Refused, TooLate
from swarm.agent.breaker import Rest
from swarm.agent.critical import answer_instead, tell_of
from swarm.agent.hand import MessageResult, Status
from swarm.agent.recovery import BreakerOpen, CriticalFailure
from swarm.agent.replies import Answer
from swarm.components import Message
from swarm.errors import SwarmError
from swarm.records import OPERATOR, Content, Turn

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)


async def handle_ask(runtime: AgentRuntime, envelope: Envelope, answer: Answer, rest: Rest) -> None:
    """One reply or one error, by the deadline; after it, nothing. An asker that has heard a piece of the
    answer hears no second try of it."""

    async def turn() -> MessageResult:
        return await runtime.process_message(_message(runtime, envelope), say=answer.say)

    left = envelope.seconds_left()
    late = asyncio.timeout(left)
    try:
        async with late:
            result = await runtime.recovery.at_once(
                turn, seconds=left, again=lambda: not answer.pieces, rest=rest
            )
        if result.status == "rejected":
            await answer.fail(Refused(result.error or "Rejected by a plugin.", reason="rejected"))
        else:
            await answer.reply(result.response or Content())
    except TimeoutError:
        if not late.expired():
            raise
        await answer.fail(TooLate(f"{runtime.name} did not finish in time."))
    except BreakerOpen as error:
        await answer_instead(runtime, answer, error)
    except CriticalFailure as failure:
        # The asker first: it waits, the others do not.
        await answer_instead(runtime, answer, _as_bus_error(runtime.name, failure.error))
        await tell_of(runtime, envelope, failure)
    except asyncio.CancelledError:
        # Ended by the drain, or the deadline of the drain is over.
        await answer.fail(NobodyThere("This instance is stopping.", reason="draining"))
        raise


async def handle_delivery(runtime: AgentRuntime, envelope: Envelope, rest: Rest) -> Status:
    """Run the turn until the ledger has its end."""

    async def turn() -> Status:
        message = _message(runtime, envelope)
        return (await runtime.process_message(message, delivery=envelope.delivery)).status

    async def bury() -> Status:
        return await _end(runtime, envelope, dead=failure.reason[:1000])

    try:
        return await runtime.recovery.patiently(turn, rest=rest)
    except CriticalFailure as given_up:
        failure = given_up
    await tell_of(runtime, envelope, failure)
    return await runtime.recovery.persistently(bury, rest=rest)


async def handle_word(runtime: AgentRuntime, envelope: Envelope, rest: Rest) -> Status:
    """The ledger's own words to us, results and notices: they start no turn, only wake who waits. No
    breaker keeps them: a turn in hand may wait for them."""

    dead = None
    try:
        content = read_body(envelope, Content)
    except BadMessage as error:
        content, dead = Content(), str(error)

    async def end() -> Status:
        return await _end(runtime, envelope, dead=dead)

    status = await runtime.recovery.persistently(end, rest=rest)
    if dead is not None:
        log.error("a %s is given up: %s", envelope.kind, dead)
    elif envelope.kind == "result":
        task = str(content.data.get("task") or "")
        runtime.peers.task_ended(task)
        if content.data.get("state") == "input-required":
            await runtime.events.emit("task:question", task=task, question=content.text)
        else:
            await runtime.events.emit("task:result", task=task, state=content.data.get("state"))
    else:
        log.warning("notice: %s", content.text)
        runtime.metrics.count_refusal(str(content.data.get("reason") or "").partition(": ")[0])
        await runtime.events.emit("message:notice", message=content)
    return status


async def _end(runtime: AgentRuntime, envelope: Envelope, *, dead: str | None = None) -> Status:
    """End a delivery without a turn; `dead` makes it a dead letter, whose sender gets a notice."""
    committed = await runtime.adapter.commit(
        Turn(delivery=envelope.delivery, attempt=envelope.attempt, instance=runtime.instance, dead=dead)
    )
    return "handled" if committed.status == "committed" else committed.status


def _as_bus_error(name: str, error: Exception) -> BusError:
    match error:
        case BusError():
            return error
        case SwarmError():
            return Failed(str(error), reason=error.reason)
    return Failed(f"{name} failed: {type(error).__name__}.", reason="exception")


def _message(runtime: AgentRuntime, envelope: Envelope) -> Message:
    """The envelope as a turn sees it. Raises BadMessage when its body is not content."""
    content = _marked(envelope, alone=runtime.peers.connected is None)
    return Message(
        id=envelope.id,
        sender=envelope.sender,
        room=envelope.room,
        kind=envelope.kind,
        content=content,
        received_at=int(time.time() * 1000),
        in_reply_to=envelope.in_reply_to,
        hops=envelope.hops,
        origin=envelope.origin,
        traceparent=envelope.traceparent,
        task=str(content.data.get("task") or envelope.id) if envelope.kind == "task" else None,
        attempt=envelope.attempt,
    )


def _marked(envelope: Envelope, *, alone: bool) -> Content:
    """The content, saying when it comes from another agent (F2, F4); its own metadata is kept. Whoever speaks to
    an agent that is alone is none."""
    content = read_body(envelope, Content)
    if alone or envelope.sender.startswith(OPERATOR):
        return content
    marks: dict[str, Any] = {"from_agent": envelope.sender, "inter_agent": True}
    if envelope.kind == "announce":
        marks["broadcast"] = True
    return msgspec.structs.replace(content, metadata={**content.metadata, **marks})
