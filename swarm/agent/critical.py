"""What follows when a message is given up (G7): four things, each tried whatever becomes of the others.

report           the agent's error service, if it has one, and the log, get the original error
administrators   are told, once for each message: the tell's id is derived from the message's
dead letter      the mailbox ends the delivery with its reason; an ask has no row that could die
answer           an ask gets the fallback, or the error when there is none
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

import msgspec

from bus.envelope import MAX_HOPS, Envelope
from bus.errors import BusError
from swarm.agent.recovery import CriticalFailure
from swarm.agent.replies import Answer
from swarm.ids import derived_id
from swarm.records import Content, Outgoing

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

ERROR_SERVICE: Final = "errors"
"""The `service_type` of a service with ``async def report(self, failure: FailureReport)``."""
STEP_SECONDS: Final = 5.0
ALERT: Final = "critical_failure"


class FailureReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an error service gets. `error` is the original exception with its traceback."""

    agent: str
    message: str
    sender: str
    room: str
    kind: str
    tries: int
    reason: str
    error: Exception


async def tell_of(runtime: AgentRuntime, envelope: Envelope, failure: CriticalFailure) -> None:
    """The log, the error service and the administrators; never raises but for cancellation."""
    log.error(
        "message %s is given up after %d tries: %s",
        envelope.id,
        failure.tries,
        failure.reason,
        exc_info=failure.error,
    )
    runtime.metrics.count_given_up(envelope.kind)
    await _isolated("the error service", _report(runtime, envelope, failure))
    for address in runtime.recovery.policy.administrators:
        await _isolated(f"telling {address}", _alert(runtime, address, envelope, failure))
    await runtime.events.emit(
        "message:given_up", message=envelope.id, tries=failure.tries, error=failure.error
    )


async def answer_instead(runtime: AgentRuntime, answer: Answer, error: BusError) -> None:
    """The policy's fallback in place of the answer that failed, whose data says what it is; else the error."""
    text = runtime.recovery.policy.fallback
    if text is None:
        await answer.fail(error)
    else:
        data = {"success": False, "fallback": True, "error": str(error), "reason": error.reason}
        await answer.reply(Content(text=text, data=data))


async def _report(runtime: AgentRuntime, envelope: Envelope, failure: CriticalFailure) -> None:
    service = runtime.get_service(ERROR_SERVICE)
    report = getattr(service, "report", None)
    if report is not None:
        await report(
            FailureReport(
                agent=runtime.name,
                message=envelope.id,
                sender=envelope.sender,
                room=envelope.room,
                kind=envelope.kind,
                tries=failure.tries,
                reason=failure.reason,
                error=failure.error,
            )
        )


async def _alert(runtime: AgentRuntime, address: str, envelope: Envelope, failure: CriticalFailure) -> None:
    """Not to oneself, and not about an alert: a failing administrator would be told of its own failing."""
    if address == runtime.name or envelope.hops >= MAX_HOPS or ALERT in envelope.room:
        return
    alert = Outgoing(
        id=derived_id(runtime.agent_id, envelope.id, ALERT, address),
        to=address,
        room=f"{ALERT}:{runtime.name}",
        content=Content(
            text=f"{runtime.name} gave up message {envelope.id} of {envelope.sender}: {failure.reason}"[
                :1000
            ],
            data={
                "alert": ALERT,
                "agent": runtime.name,
                "message": envelope.id,
                "sender": envelope.sender,
                "kind": envelope.kind,
                "tries": failure.tries,
                "error": failure.reason[:1000],
            },
        ),
        hops=envelope.hops + 1,
        origin=envelope.origin or envelope.id,
    )
    (receipt,) = await runtime.adapter.post([alert])
    runtime.peers.ring(receipt.recipients)


async def _isolated(what: str, work: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            await work
    except Exception as error:
        log.warning("%s failed: %s: %s", what, type(error).__name__, error)
