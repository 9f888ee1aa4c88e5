"""An ask on its way: one reply or one error by the deadline, its pieces meanwhile, and a span around all of it."""

from __future__ import annotations

import msgspec

from bus.bus import Bus
from bus.envelope import Envelope, read_body
from bus.subjects import ASK_TEMPLATE
from swarm.agent.hearing import OnPiece, heard_by
from swarm.records import Content
from swarm.tracing.tracer import Tracer


async def ask_on(
    bus: Bus, subject: str, envelope: Envelope, tracer: Tracer, *, timeout: float, on_chunk: OnPiece | None
) -> Content:
    """The reply's content. Raises NobodyThere, TooLate, Refused, Failed."""
    attributes = {
        "messaging.system": "nats",
        "messaging.operation.name": "publish",
        "messaging.destination.template": ASK_TEMPLATE,
        "messaging.message.id": envelope.id,
        "swarm.message.to": envelope.to,
    }
    with tracer.span("publish up.ask", "client", attributes) as span:
        if span.traceparent != envelope.traceparent:
            envelope = msgspec.structs.replace(envelope, traceparent=span.traceparent)
        if on_chunk is None:
            return read_body(await bus.request(subject, envelope, timeout=timeout), Content)
        async with heard_by(on_chunk, envelope.to, timeout) as take:
            reply = await bus.request(subject, envelope, timeout=timeout, on_chunk=take)
        return read_body(reply, Content)
