"""All that an agent counts of itself as metric families, from which every format is made (G8, G9, D7).

The names are those of the whole swarm; labels are words of small sets, never ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from swarm.agent.breaker import BreakerState
from swarm.agent.lifecycle import Phase
from swarm.agent.metrics import report, resident_bytes
from swarm.agent.spending import Spent
from swarm.metrics.family import Family, counter, gauge, with_labels

if TYPE_CHECKING:
    from swarm.agent.mailbox import Mailbox
    from swarm.agent.runtime import AgentRuntime

BREAKER_STATES: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


def families(runtime: AgentRuntime, mailbox: Mailbox | None = None) -> tuple[Family, ...]:
    """As it is at this moment; every sample says the agent's name."""
    found = [
        *_work(runtime),
        *_mail(runtime, mailbox),
        *_plugins(runtime),
        *_models(runtime),
        *_process(runtime),
    ]
    return with_labels(found, agent=runtime.name)


def _mail(runtime: AgentRuntime, mailbox: Mailbox | None) -> Iterator[Family]:
    if mailbox is None:
        return
    if (
        runtime.peers.connected is None
    ):  # in a swarm the inbox is in the ledger, and the coordinator's to count
        yield gauge("swarm_inbox_pending", "Messages that wait for their turn.", [({}, mailbox.queued)])
    yield gauge("swarm_turns_running", "Turns that run now.", [({}, mailbox.running)])
    yield counter(
        "swarm_mailbox_refused_total",
        "Messages that were not taken in.",
        [({"reason": reason}, n) for reason, n in sorted(mailbox.refused.items())],
    )


def _work(runtime: AgentRuntime) -> Iterator[Family]:
    metrics = runtime.metrics
    active = runtime.lifecycle.phase is Phase.ACTIVE
    yield gauge("swarm_agent_up", "1 while the agent is active.", [({}, int(active))])
    yield counter(
        "swarm_messages_total",
        "Turns that ended, by the kind of the message and what became of it.",
        [({"kind": kind, "outcome": end}, n) for (kind, end), n in sorted(metrics.outcomes.items())],
    )
    yield metrics.turn_seconds.family("swarm_turn_duration_seconds", "What turns took.")
    yield metrics.action_seconds.family("swarm_action_duration_seconds", "What actions took.")
    yield counter(
        "swarm_action_failures_total",
        "Actions that failed.",
        [({"action": name}, n) for name, n in sorted(metrics.action_failures.items())],
    )
    yield counter(
        "swarm_loop_detected_total",
        "Messages of this agent that were refused because of a loop or a storm.",
        [({"kind": kind}, n) for kind, n in sorted(metrics.refusals.items())],
    )
    yield counter("swarm_retries_total", "Further tries of a message.", [({}, runtime.recovery.retries)])
    breaker = runtime.recovery.breaker
    named = {"breaker": breaker.name}
    yield gauge(
        "swarm_breaker_state", "0 closed, 1 half-open, 2 open.", [(named, BREAKER_STATES[breaker.state])]
    )
    yield counter("swarm_breaker_trips_total", "How often it opened.", [(named, breaker.trips)])


def _plugins(runtime: AgentRuntime) -> Iterator[Family]:
    plugins = sorted(runtime.metrics.plugins.items())
    yield counter(
        "swarm_plugin_calls_total",
        "Calls into a plugin: its actions, providers, evaluators and hooks.",
        [({"plugin": name}, one.calls) for name, one in plugins],
    )
    yield counter(
        "swarm_plugin_failures_total",
        "Calls into a plugin that failed.",
        [({"plugin": name}, one.failures) for name, one in plugins],
    )
    yield counter(
        "swarm_plugin_seconds_total",
        "Time spent in a plugin.",
        [({"plugin": name}, one.total_ms / 1000) for name, one in plugins],
    )
    failures = [(key.partition(" "), n) for key, n in sorted(runtime.metrics.failures.items())]
    yield counter(
        "swarm_component_failures_total",
        "Failures that were contained.",
        [({"kind": kind, "name": name}, n) for (kind, _, name), n in failures],
    )


def _models(runtime: AgentRuntime) -> Iterator[Family]:
    models = sorted(runtime.spending.by_model.items())

    def each(name: str, help: str, number: str) -> Family:
        return counter(name, help, [({"model": model}, getattr(one, number)) for model, one in models])

    yield each("swarm_model_calls_total", "Calls of a model.", "calls")
    yield each("swarm_model_failures_total", "Calls of a model that failed.", "failed")
    yield each("swarm_model_seconds_total", "Time spent waiting for a model.", "seconds")
    yield counter(
        "swarm_model_tokens_total",
        "Tokens that a model read and wrote.",
        [
            ({"model": model, "direction": direction}, n)
            for model, one in models
            for direction, n in _tokens(one).items()
        ],
    )
    if any(one.cost for _, one in models):
        yield each("swarm_model_cost_total", "What it cost, in the currency of the setting prices.", "cost")


def _tokens(spent: Spent) -> dict[str, int]:
    return {"input": spent.input_tokens, "output": spent.output_tokens}


def _process(runtime: AgentRuntime) -> Iterator[Family]:
    metrics = runtime.metrics
    services = report(runtime)["active_services"]
    yield gauge("swarm_services_active", "Services that run.", [({}, services)])
    yield gauge("swarm_uptime_seconds", "Since the runtime was made.", [({}, metrics.uptime)])
    yield gauge("process_resident_memory_bytes", "Memory of the process.", [({}, resident_bytes())])
    yield counter("swarm_metrics_pushes_total", "Pushes that arrived.", [({}, metrics.pushes)])
    yield counter("swarm_metrics_push_failures_total", "Pushes that did not.", [({}, metrics.push_failures)])
