"""What an agent counts of itself (G8). Plain numbers, bounded in number by what is registered."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from swarm.components import ServiceStatus
from swarm.limits import LOOP_KINDS
from swarm.metrics.histogram import Histogram

if TYPE_CHECKING:
    from swarm.agent.hand import MessageResult
    from swarm.agent.runtime import AgentRuntime
    from swarm.components import ActionResult

NOBODY: Final = "(no plugin)"
KINDS: Final = ("ask", "tell", "announce", "task")
"""Kinds of messages that are counted apart; what a program hands over under another name is ``other``."""


@dataclass(slots=True)
class PluginPerformance:
    """The calls into one plugin: its actions, providers, evaluators and hooks. Milliseconds."""

    calls: int = 0
    failures: int = 0
    total_ms: float = 0.0
    slowest_ms: float = 0.0

    def as_dict(self) -> dict[str, float]:
        return {
            "calls": self.calls,
            "failures": self.failures,
            "average_ms": self.total_ms / self.calls if self.calls else 0.0,
            "slowest_ms": self.slowest_ms,
        }


@dataclass(slots=True)
class Metrics:
    """`turns` counts every run to an end, `messages` those whose message ended here: handled, rejected or
    given up. `errors` are the messages that were rejected, given up, or whose last action failed. A
    delivery that was a duplicate, stale or out of order is a turn, and no message."""

    clock: Callable[[], float] = time.monotonic
    turns: int = 0
    messages: int = 0
    errors: int = 0
    given_up: int = 0
    successful_ms: float = 0.0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the kind of the message and what became of it: a `Status`, ``failed`` (handled, and its last action
    failed) or ``given_up``."""
    turn_seconds: Histogram = field(default_factory=lambda: Histogram("kind"))
    action_seconds: Histogram = field(default_factory=lambda: Histogram("action", "plugin"))
    refusals: Counter[str] = field(default_factory=Counter)
    """What this agent was not let send because of a loop or a storm, by kind (swarm.limits)."""
    pushes: int = 0
    push_failures: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    action_failures: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    """Contained failures by ``kind name``, such as ``provider WEATHER``."""
    plugins: dict[str, PluginPerformance] = field(default_factory=dict)
    born_at: int = field(default_factory=time.time_ns)
    """When the counting began, in Unix nanoseconds."""
    _born: float = 0.0

    def __post_init__(self) -> None:
        self._born = self.clock()

    def count_turn(self, result: MessageResult, kind: str) -> None:
        kind = kind if kind in KINDS else "other"
        failed = result.status == "handled" and bool(result.actions) and not result.actions[-1].success
        self.turns += 1
        self.outcomes[kind, "failed" if failed else result.status] += 1
        self.turn_seconds.observe(result.milliseconds / 1000, kind)
        if result.status not in ("handled", "rejected"):
            return
        self.messages += 1
        if failed or result.status == "rejected":
            self.errors += 1
        else:
            self.successful_ms += result.milliseconds

    def count_given_up(self, kind: str) -> None:
        """A message that never ended well, however often it was tried."""
        self.outcomes[kind if kind in KINDS else "other", "given_up"] += 1
        self.messages += 1
        self.errors += 1
        self.given_up += 1

    def count_action(self, name: str, result: ActionResult, plugin: str | None = None) -> None:
        self.actions[name] += 1
        if not result.success:
            self.action_failures[name] += 1
        self.action_seconds.observe(result.execution_time / 1000, name, plugin or NOBODY)
        self.count_call(plugin, result.execution_time, failed=not result.success)

    def count_call(self, plugin: str | None, milliseconds: float, *, failed: bool) -> None:
        performance = self.plugins.setdefault(plugin or NOBODY, PluginPerformance())
        performance.calls += 1
        performance.failures += failed
        performance.total_ms += milliseconds
        performance.slowest_ms = max(performance.slowest_ms, milliseconds)

    def count_push(self, arrived: bool) -> None:
        self.pushes += arrived
        self.push_failures += not arrived

    def count_failure(self, kind: str, name: str) -> None:
        self.failures[f"{kind} {name}"] += 1

    def count_refusal(self, kind: str) -> None:
        """Other reasons than a loop's or a storm's count nowhere."""
        if kind in LOOP_KINDS:
            self.refusals[kind] += 1

    @property
    def error_rate(self) -> float:
        """Errors over all messages, 0..1."""
        return self.errors / self.messages if self.messages else 0.0

    @property
    def average_response_ms(self) -> float:
        """Over the messages that ended well."""
        good = self.messages - self.errors
        return self.successful_ms / good if good else 0.0

    @property
    def uptime(self) -> float:
        """Seconds since this runtime was made; not the process's."""
        return self.clock() - self._born


def report(runtime: AgentRuntime) -> dict[str, Any]:
    """The source's six (G8), ready for JSON, and ``model_usage``: tokens and cost in all, by model and by task
    (X5). Times in milliseconds, memory in bytes."""
    metrics = runtime.metrics
    return {
        "messages_processed": metrics.messages,
        "average_response_time": metrics.average_response_ms,
        "error_rate": metrics.error_rate,
        "memory_usage": resident_bytes(),
        "active_services": sum(
            service.status is ServiceStatus.RUNNING
            for services in runtime.services.values()
            for service in services
        ),
        "plugin_performance": {name: one.as_dict() for name, one in sorted(metrics.plugins.items())},
        "model_usage": runtime.spending.report(),
    }


def resident_bytes(read: Callable[[], str] = lambda: Path("/proc/self/statm").read_text()) -> int:
    """This process's resident memory; 0 where the system does not say."""
    try:
        return int(read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
