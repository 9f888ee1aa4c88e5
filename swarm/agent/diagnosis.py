"""What an instance says of itself when somebody asks what is wrong (H12).

The answer comes from the event loop: an instance that is blocked gives none, which is an answer, too.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from bus.bus import Bus, Incoming
from bus.envelope import Envelope, pack
from bus.errors import BusError
from swarm.agent import health
from swarm.agent.metrics import resident_bytes
from swarm.ids import new_id

if TYPE_CHECKING:
    from swarm.agent.mailbox import Mailbox
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)


async def diagnosis(runtime: AgentRuntime, mailbox: Mailbox) -> dict[str, Any]:
    """`{"instance", "pid", "phase", "initialized", "plugins", "broken", "services": [{"name", "status"}], "actions",
    "providers", "evaluators", "in_flight", "queued", "turns", "errors", "memory_mb", "uptime", "version", "verdict",
    "reasons"}`. `verdict` is ``healthy`` or ``unhealthy``; `reasons` say why, the store and the bus among them."""
    live, ready = health.liveness(runtime), await health.readiness(runtime)
    reasons = [*live.reasons, *(reason for reason in ready.reasons if reason not in live.reasons)]
    return {
        "instance": runtime.instance,
        "pid": os.getpid(),
        "phase": str(runtime.lifecycle.phase),
        "initialized": runtime.is_initialized,
        "plugins": [plugin.name for plugin in runtime.plugins],
        "broken": dict(runtime.broken_plugins),
        "services": [
            {"name": service_type, "status": str(service.status)}
            for service_type, services in runtime.services.items()
            for service in services
        ],
        "actions": sorted(runtime.offered_actions),
        "providers": [provider.name for provider in runtime.providers],
        "evaluators": [evaluator.name for evaluator in runtime.evaluators],
        "in_flight": mailbox.running,
        "queued": mailbox.queued,
        "turns": runtime.metrics.turns,
        "errors": runtime.metrics.errors,
        "memory_mb": round(resident_bytes() / 1_048_576, 1),
        "uptime": round(runtime.metrics.uptime, 1),
        "version": runtime.character.version,
        "verdict": "unhealthy" if reasons else "healthy",
        "reasons": reasons,
    }


async def answer_probe(runtime: AgentRuntime, mailbox: Mailbox, bus: Bus, probe: Incoming) -> None:
    """Bounded by the store's ping; an answer that cannot be sent is nobody's trouble but the asker's."""
    if probe.reply is None:
        return
    envelope = Envelope(
        id=new_id(),
        sender=runtime.name,
        to=probe.envelope.sender,
        room=probe.envelope.room,
        kind="reply",
        body=pack(await diagnosis(runtime, mailbox)),
        in_reply_to=probe.envelope.id,
    )
    try:
        await bus.publish(probe.reply, envelope)
    except BusError as error:
        log.warning("the diagnosis was not sent: %s", error)
