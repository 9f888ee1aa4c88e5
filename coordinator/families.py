"""What the coordinator knows of the whole swarm, as metric families: the numbers that alarms are made of.

The ledger is asked at most every `FRESH_SECONDS`, however often somebody scrapes. Labels are names of agents and
words of small sets, never ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from swarm.limits import LOOP_KINDS
from swarm.metrics.family import Family, counter, gauge

if TYPE_CHECKING:
    from coordinator.metrics import Metrics
    from coordinator.term import Term
    from swarm.ledger import Ledger

FRESH_SECONDS: Final = 5.0


class CoordinatorFamilies:
    """`term` is what is known while this coordinator is the active one; a standby shows only its own counters."""

    def __init__(self, ledger: Ledger, metrics: Metrics, term: Callable[[], Term | None]) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._term = term
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._counts: Mapping[str, int] = {}
        self._waiting: Mapping[str, int] = {}
        self._oldest: Mapping[str, float] = {}

    async def read(self) -> Iterable[Family]:
        term = self._term()
        found = [*_own(self._metrics, active=term is not None)]
        if term is not None:
            await self._refresh()
            found += [*_ledger(self._counts), _loops(self._counts, self._metrics.loops_refused)]
            found += [*_agents(term, dict(self._waiting)), _waits(self._oldest)]
        return found

    async def _refresh(self) -> None:
        async with self._reading:
            if time.monotonic() - self._read_at < FRESH_SECONDS:
                return
            self._counts, self._waiting = await self._ledger.stats(), await self._ledger.waiting()
            self._oldest = await self._ledger.oldest_waiting(list(self._waiting))
            self._read_at = time.monotonic()


def _own(metrics: Metrics, *, active: bool) -> Iterator[Family]:
    yield gauge("swarm_coordinator_active", "1 for the one that routes.", [({}, int(active))])
    for name, value in metrics.as_dict().items():
        words = name.replace("_", " ")
        yield counter(f"swarm_coordinator_{name}_total", f"{words.capitalize()}.", [({}, value)])


def _loops(counts: Mapping[str, int], asks: int) -> Family:
    kinds = {key.removeprefix("refused."): n for key, n in counts.items() if key.startswith("refused.")}
    refused = {kind: n for kind, n in kinds.items() if kind in LOOP_KINDS}
    return counter(
        "swarm_loop_detected_total",
        "Messages that the ledger refused because of a loop or a storm, by kind; asks, in this coordinator's time.",
        [({"kind": kind}, n) for kind, n in sorted({**refused, "ask": asks}.items())],
    )


def _waits(oldest: Mapping[str, float]) -> Family:
    return gauge(
        "swarm_inbox_oldest_seconds",
        "How long the oldest message of an inbox has waited.",
        [({"agent": agent}, seconds) for agent, seconds in sorted(oldest.items())],
    )


def _ledger(counts: Mapping[str, int]) -> Iterator[Family]:
    def states(prefix: str) -> list[tuple[dict[str, str], float]]:
        return [
            ({"state": name.removeprefix(prefix)}, number)
            for name, number in sorted(counts.items())
            if name.startswith(prefix)
        ]

    yield gauge("swarm_deliveries", "Rows of the ledger by state.", states("deliveries."))
    yield gauge("swarm_tasks", "Tasks of the ledger by state.", states("tasks."))


def _agents(term: Term, waiting: dict[str, int]) -> Iterator[Family]:
    rows = term.running.rows(waiting)
    names = sorted({str(row["name"]) for row in rows})
    up, in_flight, restarts = dict.fromkeys(names, 0), dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    quarantined = dict.fromkeys(names, 0)
    wanted = {str(row["name"]): int(row["wanted"]) for row in rows}
    for row in rows:
        name = row["name"]
        up[name] += row["status"] == "ready"
        quarantined[name] += row["status"] == "quarantined"
        in_flight[name] += row["in_flight"]
        restarts[name] += row["restarts"]

    def each(numbers: Mapping[str, int]) -> list[tuple[dict[str, str], float]]:
        return [({"agent": name}, number) for name, number in numbers.items()]

    yield gauge("swarm_agent_up", "Instances that are ready.", each(up))
    yield gauge(
        "swarm_agent_wanted", "Instances that should run: none of who is stopped or asleep.", each(wanted)
    )
    yield gauge("swarm_agent_quarantined", "Instances that are not restarted any more.", each(quarantined))
    yield gauge("swarm_agent_in_flight", "Messages dispatched and not handled yet.", each(in_flight))
    yield counter("swarm_agent_restarts_total", "Restarts by the node since it started.", each(restarts))
    pending = {name: waiting.get(name, 0) for name in names}
    yield gauge("swarm_inbox_pending", "Messages that wait for the agent.", each(pending))
    yield gauge("swarm_nodes", "Nodes that have joined.", [({}, len(term.presence.nodes))])
