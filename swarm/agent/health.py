"""How an agent is (G10). Two questions that must not be one:

    liveness    does it live, or should somebody replace it? Asks nothing of others: a database that is
                away is no reason to kill an agent
    readiness   can it do its work now? Its phase, its store, its bus, its required services, its breaker

`report` is the source's shape. "Healthy" means ready: whoever serves it answers 503 otherwise.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from swarm.agent import metrics
from swarm.agent.breaker import BreakerState
from swarm.agent.lifecycle import Phase
from swarm.components import ServiceStatus

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

PING_SECONDS: Final = 2.0


class Verdict(NamedTuple):
    """`reasons` are sentences, one for each thing that is wrong; none when it is well."""

    reasons: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        return not self.reasons


def liveness(runtime: AgentRuntime) -> Verdict:
    """Answering at all shows that the event loop runs; what is left is the phase."""
    phase = runtime.lifecycle.phase
    return Verdict((f"The agent is {phase}.",) if phase in (Phase.FAILED, Phase.STOPPED) else ())


async def readiness(runtime: AgentRuntime) -> Verdict:
    """Bounded by PING_SECONDS; never raises."""
    reasons = []
    if runtime.lifecycle.phase is not Phase.ACTIVE:
        return Verdict((f"The agent is {runtime.lifecycle.phase}.",))
    store = await _store(runtime)
    if store is not None:
        reasons.append(store)
    if runtime.peers.connected is False:
        reasons.append("The bus cannot be reached.")
    for service_type, services in runtime.services.items():
        for service in services:
            if type(service).required and service.status is not ServiceStatus.RUNNING:
                reasons.append(f"The service {service_type} is {service.status}.")
    breaker = runtime.recovery.breaker
    if breaker.state is BreakerState.OPEN:
        reasons.append(f"The breaker {breaker.name} is open for {breaker.seconds_left():.0f} s more.")
    return Verdict(tuple(reasons))


async def report(runtime: AgentRuntime) -> dict[str, Any]:
    """Exactly ``{status, uptime, metrics, services, version}``; uptime in seconds, every instance of every
    service, the version of the character. An agent that works without a broken plugin also has ``broken``:
    plugin → why."""
    ready = await readiness(runtime)
    return {
        "status": "healthy" if ready.well else "unhealthy",
        "uptime": runtime.metrics.uptime,
        "metrics": metrics.report(runtime),
        "services": [
            {"name": service_type, "status": str(service.status)}
            for service_type, services in runtime.services.items()
            for service in services
        ],
        "version": runtime.character.version,
        **({"broken": dict(runtime.broken_plugins)} if runtime.broken_plugins else {}),
    }


async def _store(runtime: AgentRuntime) -> str | None:
    late = asyncio.timeout(PING_SECONDS)
    try:
        async with late:
            await runtime.adapter.ping()
    except Exception as error:
        if late.expired():
            return f"The store did not answer within {PING_SECONDS:g} s."
        return f"The store cannot be reached: {error}"
    return None
