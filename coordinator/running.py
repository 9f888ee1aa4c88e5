"""What runs: the rows that people see, and stopping, starting and restarting agents.

Each of these changes what is wanted, lets placement tell the nodes, and waits until it is so.
"""

from __future__ import annotations

from typing import Any

from bus.errors import NobodyThere, Refused
from coordinator.directory import Directory
from coordinator.placement import Placer
from coordinator.presence import Instance, Presence
from coordinator.progress import Progress
from coordinator.rolling import Rolling
from coordinator.router import Router
from swarm.ledger import Ledger
from swarm.protocol import NodeInstance
from swarm.records import AgentRecord


class Running:
    def __init__(
        self,
        ledger: Ledger,
        directory: Directory,
        presence: Presence,
        router: Router,
        placer: Placer,
        rolling: Rolling,
        progress: Progress,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._presence = presence
        self._router = router
        self._placer = placer
        self._rolling = rolling
        self._progress = progress

    # ── seeing ────────────────────────────────────────────────────────────────────────────────────
    def rows(self, waiting: dict[str, int]) -> list[dict[str, Any]]:
        """`name, agent_id, instance, status, node, pid, inbox, in_flight, restarts, rss_mb, turns, errors, version,
        reason, replicas, wanted`: a row for each live instance and each process that a node knows, or one with the
        status ``absent`` or ``asleep``. `wanted` is how many should run now, of `replicas`. `inbox` counts what waits
        for the agent, whatever its replicas."""
        return [row for record in self._directory for row in self._rows_of(record, waiting)]

    def _rows_of(self, record: AgentRecord, waiting: dict[str, int]) -> list[dict[str, Any]]:
        inbox = waiting.get(record.name, 0)
        known = {row.instance: (node.name, row) for node, row in self._presence.node_rows(record.name)}
        rows: list[dict[str, Any]] = []
        for instance in sorted(self._presence.of(record.name).values(), key=lambda i: i.key):
            _, said = known.pop(instance.name, ("", None))
            rows.append(self._live(record, instance, said, inbox))
        for node, said in known.values():
            if said.status != "stopped":
                rows.append(_process(record, node, said, inbox))
        for (agent, number), why in self._placer.unplaced.items():
            if agent == record.name:
                rows.append(
                    _row(
                        record,
                        inbox=inbox,
                        status="absent",
                        reason=f"{agent}/{number} fits on no node: {why}",
                    )
                )
        if not rows and (record.planned or record.birth is None):
            rows.append(_row(record, inbox=inbox, status=_without(record), reason=_why_without(record)))
        return rows

    def _live(
        self, record: AgentRecord, instance: Instance, said: NodeInstance | None, inbox: int
    ) -> dict[str, Any]:
        beat = instance.beat
        in_flight = self._router.places.load(instance)
        return _row(
            record,
            instance=instance.name,
            status=instance.status,
            node=instance.node,
            pid=instance.pid,
            inbox=inbox,
            in_flight=in_flight if beat is None else max(in_flight, beat.in_flight),
            restarts=0 if said is None else said.restarts,
            rss_mb=0.0 if beat is None else round(beat.rss_mb, 1),
            turns=0 if beat is None else beat.turns,
            errors=0 if beat is None else beat.errors,
            version=instance.version or record.version,
        )

    # ── changing ──────────────────────────────────────────────────────────────────────────────────
    async def stop(self, agent: str, timeout: float) -> dict[str, Any]:
        """Drain all instances; answers when none is left, or after `timeout` seconds with those that are:
        `{"agent", "stopped", "instances": [names]}`."""
        await self._ledger.set_desired(agent, "stopped")
        await self._directory.refresh()
        self.drain(agent)
        self._placer.converge()

        async def look() -> list[str]:
            return self._processes(agent)

        left = await self._progress.until(look, lambda names: not names, timeout)
        return {"agent": agent, "stopped": not left, "instances": left}

    async def resume(self, agent: str, timeout: float) -> dict[str, Any]:
        """As `start`, for an agent in quarantine. Raises Refused when it was stopped: that was somebody's will."""
        if self._directory.named(agent).desired == "stopped":
            raise Refused(
                f"{agent} is not quarantined, it was stopped; start it with `swarm start {agent}`.",
                reason="stopped",
            )
        return await self.start(agent, timeout)

    async def start(self, agent: str, timeout: float) -> dict[str, Any]:
        """Answers when all replicas are ready, or after `timeout` seconds: `{"agent", "ready", "instances"}`."""
        await self._ledger.set_desired(agent, "running")
        if self._directory.named(agent).asleep:
            await self._ledger.wake([agent])
        await self._directory.refresh()
        self._rolling.renew_fallen(agent)
        self._placer.converge()
        return await self._ready(agent, frozenset(), timeout)

    async def restart(self, agent: str, timeout: float) -> dict[str, Any]:
        """As `start`, with a fresh process in every slot, one after the other."""
        record = self._directory.named(agent)
        if record.desired == "stopped" or record.asleep:
            return await self.start(agent, timeout)
        self._require_node(agent)
        old = frozenset(self._processes(agent))
        self._rolling.roll(agent)
        return await self._ready(agent, old, timeout)

    async def converge(self, wait: float) -> dict[str, Any]:
        """Read the agents anew and place them; answers when all are ready or after `wait` seconds:
        `{"agents", "wanted", "ready", "missing": [names]}`, the middle two counting instances."""
        await self._directory.refresh()
        self._placer.converge()

        async def look() -> dict[str, Any]:
            wanted = {r.name: r.wanted for r in self._directory if r.wanted}
            ready = {name: len(self._presence.ready(name)) for name in wanted}
            return {
                "agents": sum(1 for _ in self._directory),
                "wanted": sum(wanted.values()),
                "ready": sum(ready.values()),
                "missing": [name for name, number in wanted.items() if ready[name] < number],
            }

        return await self._progress.until(look, lambda seen: not seen["missing"], wait)

    async def up(self, agent: str, timeout: float) -> dict[str, Any]:
        """Answers when all replicas are ready, when that cannot be (it is stopped or quarantined), or after `timeout`
        seconds: `{"agent", "ready", "instances", "reason"}`."""

        async def look() -> tuple[list[str], str, bool]:
            record = self._directory.named(agent)
            names = [instance.name for instance in self._presence.ready(agent)]
            rows = [row for _, row in self._presence.node_rows(agent) if row.status == "quarantined"]
            reason = "stopped" if record.desired == "stopped" else "".join(row.reason for row in rows[:1])
            return names, reason, len(names) >= record.wanted

        names, reason, ready = await self._progress.until(
            look, lambda seen: seen[2] or bool(seen[1]), timeout
        )
        return {"agent": agent, "ready": ready, "instances": names, "reason": reason}

    async def _ready(self, agent: str, old: frozenset[str], timeout: float) -> dict[str, Any]:
        record = self._directory.named(agent)

        async def look() -> list[str]:
            if old & set(self._processes(agent)):
                return []
            return [instance.name for instance in self._presence.ready(agent)]

        def ready(names: list[str]) -> bool:
            return len(names) >= record.wanted

        if not ready(await look()):
            self._require_node(agent)
        names = await self._progress.until(look, ready, timeout)
        return {"agent": agent, "ready": ready(names), "instances": names}

    def drain(self, agent: str) -> None:
        """Nothing new goes to the instances that are to end; their own beats say so a moment later."""
        for instance in self._presence.of(agent).values():
            instance.status = "draining"
        self._router.places_changed(agent)

    def _processes(self, agent: str) -> list[str]:
        names = {instance.name for instance in self._presence.of(agent).values()}
        names |= {row.instance for _, row in self._presence.node_rows(agent) if row.status in _ALIVE}
        return sorted(names)

    def _require_node(self, agent: str) -> None:
        if not self._presence.nodes:
            raise NobodyThere(
                f"{agent} cannot be started: no node has joined; run swarm up.",
                reason="no_node",
            )


_ALIVE = ("starting", "running", "draining")
_STATUS = {"running": "starting", "backoff": "absent"}
"""A process that has not said hello is starting; one that waits to be started again is absent."""


def _without(record: AgentRecord) -> str:
    """The status of an agent of which nothing runs."""
    return "asleep" if record.desired == "running" and record.asleep else "absent"


def _why_without(record: AgentRecord) -> str:
    if record.desired == "stopped":
        return "stopped"
    return "" if record.replicas else "scaled to 0"


def _process(record: AgentRecord, node: str, said: NodeInstance, inbox: int) -> dict[str, Any]:
    return _row(
        record,
        instance=said.instance,
        status=_STATUS.get(said.status, said.status),
        node=node,
        pid=said.pid,
        inbox=inbox,
        restarts=said.restarts,
        reason=said.reason or ("backoff" if said.status == "backoff" else ""),
    )


def _row(
    record: AgentRecord,
    *,
    instance: str = "",
    status: str,
    node: str = "",
    pid: int = 0,
    inbox: int,
    in_flight: int = 0,
    restarts: int = 0,
    rss_mb: float = 0.0,
    turns: int = 0,
    errors: int = 0,
    version: str = "",
    reason: str = "",
) -> dict[str, Any]:
    return {
        "name": record.name,
        "agent_id": record.id,
        "instance": instance,
        "status": status,
        "node": node,
        "pid": pid,
        "inbox": inbox,
        "in_flight": in_flight,
        "restarts": restarts,
        "rss_mb": rss_mb,
        "turns": turns,
        "errors": errors,
        "version": version or record.version,
        "reason": reason,
        "replicas": record.replicas,
        "wanted": record.wanted,
    }
